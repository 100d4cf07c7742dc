"""Which of several operating points suits each training image best, and what choosing is worth.

References:
  Resizable Neural Networks (ICLR 2020 submission), RS-Adapt; what it leaves open:
  docs/choices.md R17.
"""

from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from jax_elastic import rng
from jax_elastic.data.augment import normalise
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.data.order import padded_batches
from jax_elastic.data.targets import Targets
from jax_elastic.elastic.doors import check_statistics
from jax_elastic.elastic.family import Family, Prediction, Variables
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.by_segments import predictor
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.found import read
from jax_elastic.evaluation.rows import Row
from jax_elastic.subnet import Subnet


def check_choice(network: Family, variables: Variables, points: Sequence[Subnet]) -> None:
    """Refuses operating points between which nobody can choose by what they cost.

    Args:
      network: the family.
      variables: its arrays.
      points: the candidates.

    Raises:
      UsageError: there are fewer than two; the network lacks one, takes budgets or draws its gates;
        one's gates decide what an image costs, or reads BN statistics that were never estimated.
    """
    if network.budgets or network.random:
        raise UsageError(
            "the operating points of this network are not candidates: "
            + ("it takes a budget" if network.budgets else "its gates are random"),
            "a network whose operating points cost the same for every image",
        )
    if len(points) < 2:
        raise UsageError(f"{len(points)} operating point is no choice", "two candidates or more")
    for point in points:
        check_statistics(network, variables, point)
        if any(segment.role != "fixed" for segment in network.segments(point)):
            raise UsageError(
                f"{point} is no candidate: its gates decide what an image costs",
                "operating points that cost the same for every image",
            )


def by_cost(costs: CostModel, points: Sequence[Subnet]) -> dict[Subnet, int]:
    """Different operating points and the MACs of each for one image, cheapest first.

    Of equals the first stays first.
    """
    macs = {point: costs.cost(point).full for point in points}
    return dict(sorted(macs.items(), key=lambda item: item[1]))


def some_images(size: int, most: int, seed: int) -> npt.NDArray[np.int32]:
    """Random images of a set, ascending: (min(size, most),) int32."""
    order = rng.host(seed, rng.Stream.TARGETS).permutation(size)
    return np.sort(order[:most]).astype(np.int32)


def measure(
    network: Family,
    variables: Variables,
    dataset: Dataset,
    data: DataConfig,
    begun: Targets,
    batch_size: int = 256,
) -> Iterator[Targets]:
    """Goes on with targets where they stand.

    Images are taken as they are, without augmentation; the true class is that of the finest label
    level.

    Args:
      network: the family.
      variables: its arrays.
      dataset: the whole train split.
      data: how images are normalised.
      begun: what is there, of the first m images.
      batch_size: images per call.

    Yields:
      After each batch, what there is then.

    Raises:
      UsageError: the logits are not finite.
    """
    predict = predictor(network)
    points = tuple(map(Subnet.parse, begun.candidates))
    # Those that begin alike one after the other, so that this is computed once.
    order = sorted(range(len(points)), key=lambda i: (points[i].axis, points[i].value))
    back = np.argsort(order)
    found = begun
    for batch in padded_batches(dataset.take(begun.ids[begun.done :]), batch_size):
        images = normalise(jnp.asarray(batch["image"]), data)
        there, labels = batch["mask"] > 0, batch["labels"]
        predictions = predict(variables, images, tuple(points[i] for i in order), None)
        each = [_of_true_class(prediction, labels, there) for prediction in predictions]
        probability, right = (np.stack(one, -1)[:, back] for one in zip(*each, strict=True))
        found = found.extended(probability, right)
        yield found


def rows_of(found: Targets, macs: Sequence[int]) -> list[Row]:
    """What finished targets say, a row for each candidate.

    Args:
      found: the targets.
      macs: of each candidate.

    Returns:
      `subnet, macs, n` (images), `best` (how many images have it as target), `best_share`,
      `probability` (mean, of the true class), `top1`, `better` (share of the images whose true
      class it gives a higher probability than the most expensive candidate does), `rescued` (share
      that it tells right and that one wrong); and, the same in all rows, `cheaper_better` and
      `cheaper_rescues`: the shares for which some cheaper candidate does that, which is the paper's
      motive for choosing. All of training images, which a network knows better than others.
    """
    probability, right = found.probability, found.right
    cheaper = np.array(macs) < macs[-1]
    better = (probability > probability[:, -1:]) & cheaper
    rescued = right & ~right[:, -1:] & cheaper
    best = np.bincount(found.targets, minlength=len(macs))
    motive = {
        "cheaper_better": float(better.any(1).mean()),
        "cheaper_rescues": float(rescued.any(1).mean()),
    }
    return [
        {
            "subnet": name,
            "macs": macs[i],
            "n": found.done,
            "best": int(best[i]),
            "best_share": float(best[i] / found.done),
            "probability": float(probability[:, i].mean(dtype=float)),
            "top1": float(right[:, i].mean()),
            "better": float(better[:, i].mean()),
            "rescued": float(rescued[:, i].mean()),
            **motive,
        }
        for i, name in enumerate(found.candidates)
    ]


def _of_true_class(
    prediction: Prediction, labels: npt.NDArray[np.int32], there: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """(n,) its probability, rounded from float64, and (n,) whether it is the likeliest."""
    right = read(prediction, labels, there, 1).top1[:, 0]
    shares = softmax(np.asarray(prediction.logits[0], np.float64)[there], -1)
    own = np.take_along_axis(shares, labels[there, :1], -1)[:, 0]
    return own.astype(np.float32), right
