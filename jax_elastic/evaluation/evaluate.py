"""Accuracy, usage and MACs per operating point and budget, over every image of a split.

Predictions are those of `Family.predict`, the masked forward, or where operating points are
combinations of choices those of its segments, which are the same.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jax_elastic import rng
from jax_elastic.data.augment import normalise
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.data.order import padded_batches
from jax_elastic.elastic.doors import check_budget, check_statistics
from jax_elastic.elastic.family import Array, Family, Variables
from jax_elastic.elastic.points import couples, own_budget
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.accuracy import confidence_interval, draws_interval
from jax_elastic.evaluation.by_segments import Predict, predictor
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.found import Found, read
from jax_elastic.evaluation.usage import usage, usage_of_blocks
from jax_elastic.subnet import Subnet

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]
RANDOM_DRAWS = 10  # of a network whose gates are random, for every image
TOP5_FROM = 20  # classes; with fewer, top-5 says little


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluator found.

    Attributes:
      rows: one per budget and subnet, and one per subnet that implies its budget; keys `subnet,
        n, top1, top1_ci95, top5 (from 20 classes), blocks_total, blocks_mean, blocks_std,
        blocks_p99, macs_mean, macs_std, asked, achieved, achieved_std, achieved_p99,
        tracking_error, reached` (error up to `REACHED`). Shares are in [0, 1], MACs per image; std
        and p99 are over images. Of each gated block `blocks_open` has, by its name, the share of
        the images that open it, `blocks_never` lists those that none opens, and `blocks_stages` has
        all names by stage. Keys of blocks and budgets are None where there are none. Where images
        choose among candidates, of which one is no share of them, they are None, too, and there are
        `choices` (the share of the images that chose each of `Family.candidates`) and
        `macs_chosen_mean` (of what they chose alone; `macs_mean` also has what it took to choose).
        Where blocks open per image also `macs_share`, the mean MACs as a share of the same network
        with every block open and nothing that decides (of a network that only drops blocks, the
        plain network; papers call it nFLOPs), and `macs_share_without_gates`, the same without what
        decides. Where blocks are weighted also `gate_mean, gate_std`, of the weights over images
        and blocks. Where gates are random also `draws`, how often each image was drawn (top1 is the
        mean, std and p99 are over images and draws), and `top1_draws_ci95`, the interval that these
        draws alone leave (Student's t over the draws' accuracies). Where the images of a batch
        compete also `batch_size`; the last batch may be smaller. Of a network with several label
        levels each of these rows comes once per level, the finest first, with `level` (0 is the
        finest) and `level_name`.
      top1: per row float (n,), each image's hit, or its mean over the draws.
      opened: per row float (n, N), which blocks each image opened, or in which share of the
        draws; None without gates, and where they only run what was chosen.
      macs: per row float (n,), what each image cost, on average over the draws.
      choice: per row int (draws, n), what each image chose; None where nothing is chosen.
      answer: per row int (draws, n), the class of the row's label level that each image was taken
        for.
      loss: per row float (n,), each image's cross-entropy in nats at the row's label level, on
        average over the draws.
    """

    rows: list[Row]
    top1: list[Floats]
    opened: list[Floats | None]
    macs: list[Floats]
    choice: list[npt.NDArray[np.int32] | None]
    answer: list[npt.NDArray[np.int32]]
    loss: list[Floats]

    def at_finest(self) -> "Evaluation":
        """The rows of the finest label level alone, which is all of them where there is one."""
        keep = [i for i, row in enumerate(self.rows) if row.get("level", 0) == 0]
        parts = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Evaluation(*([part[i] for i in keep] for part in parts))


class Evaluator:
    """Evaluates a network on a split; compiled once, called with any variables.

    Args:
      network: the family.
      dataset: the split; every image is counted, the last batch is padded and masked.
      data: how images are normalised.
      subnets: operating points; None for those of `Family.shown`.
      budgets: shares of the blocks to ask for; None for `network.budgets`.
      batch_size: images per call.
      draws: how often each image is drawn, where the network is `random`; the keys depend on the
        draw and on the image's place in the split alone.
      predict: what computes the predictions; None for the `predictor` of the network.
      costs: of this network and these images; None for what is counted here. Evaluators that are
        made one after the other share both, so that nothing is compiled or counted twice.

    Raises:
      UsageError: an operating point or a budget that the network cannot take, or a split without
        the label levels of a network that has several.
    """

    def __init__(
        self,
        network: Family,
        dataset: Dataset,
        data: DataConfig,
        subnets: Sequence[Subnet] | None = None,
        budgets: Sequence[float] | None = None,
        batch_size: int = 256,
        draws: int = RANDOM_DRAWS,
        predict: Predict | None = None,
        costs: CostModel | None = None,
    ):
        self._network, self._dataset, self._data = network, dataset, data
        self._levels = len(network.classes)
        if self._levels > 1:
            dataset.check_classes(network.classes)
        self._subnets = tuple(subnets or network.shown)
        for subnet in self._subnets:
            network.check(subnet)
        given = () if budgets is None else tuple(budgets)
        for asked in given:
            check_budget(network, asked)
        self._asked = _group(self._subnets, given or network.budgets or (None,))
        for budget, group in self._asked:
            check_budget(network, budget, group[0])
        if draws < 2:
            raise UsageError(f"{draws} random draws give no interval", "2 or more")
        self._batch_size = batch_size
        self._draws = draws if network.random else 1
        self._predict = predict or predictor(network)
        self._costs = costs or CostModel(network, dataset.images.shape[1:])
        for subnet in self._subnets:
            self._costs.cost(subnet)  # what cannot be counted is refused before anything runs

    def __call__(self, variables: Variables) -> Evaluation:
        """Evaluates variables.

        Raises:
          UsageError: an operating point reads BN statistics that were never estimated, or the
            logits are not finite.
        """
        check_statistics(self._network, variables, *self._subnets)
        found = Evaluation([], [], [], [], [], [], [])
        for budget, subnets in self._asked:
            groups = zip(subnets, self._run(variables, budget, subnets), strict=True)
            for subnet, images in groups:
                opened, choice = images.opened, images.choice
                macs = self._costs.of_images(subnet, images.top1.shape[:2], opened, choice)
                if choice is not None:
                    opened = None
                for level in range(self._levels):
                    found.rows.append(self._row(subnet, budget, images, macs, level))
                    found.top1.append(_mean_draw(images.top1[..., level]))
                    found.opened.append(None if opened is None else _mean_draw(opened))
                    found.macs.append(_mean_draw(macs))
                    found.choice.append(choice)
                    found.answer.append(images.answer[..., level])
                    found.loss.append(_mean_draw(images.loss[..., level]))
        return found

    def _run(
        self, variables: Variables, budget: float | None, subnets: tuple[Subnet, ...]
    ) -> list["Found"]:
        """What was found per subnet, draws first."""
        asked = None if budget is None else jnp.float32(budget)
        parts: list[list[list[Found]]] = [[[] for _ in subnets] for _ in range(self._draws)]
        for i, batch in enumerate(padded_batches(self._dataset, self._batch_size)):
            there = batch["mask"] > 0
            if couples(subnets[0]):
                # Padding would compete with the images of its batch.
                batch = {name: array[there] for name, array in batch.items()}
                there = there[there]
            images = normalise(jnp.asarray(batch["image"]), self._data)
            for draw, part in enumerate(parts):
                keys = self._keys(draw, i * self._batch_size, len(images))
                predictions = self._predict(variables, images, subnets, asked, keys)
                for found, prediction in zip(part, predictions, strict=True):
                    found.append(read(prediction, batch["labels"], there, self._levels))
        return [
            Found.stack([Found.concatenate(part[j]) for part in parts]) for j in range(len(subnets))
        ]

    def _keys(self, draw: int, start: int, size: int) -> Array | None:
        """One key for each of `size` images from image `start` on."""
        if not self._network.random:
            return None
        places = np.arange(start, start + size, dtype=np.int32)
        keys: Array = rng.image_keys(places, draw)
        return keys

    def _row(
        self, subnet: Subnet, budget: float | None, found: Found, macs: Floats, level: int
    ) -> Row:
        right = found.top1[..., level]
        top1, n = right.mean(1, dtype=float), right.shape[1]  # of each draw
        row = {
            "subnet": str(subnet),
            **self._named(level),
            "n": n,
            "top1": float(top1.mean()),
            "top1_ci95": confidence_interval(round(float(right.mean(dtype=float) * n)), n),
            "macs_mean": float(macs.mean()),
            "macs_std": float(macs.std()),
            "asked": budget,
        }
        if couples(subnet):
            row["batch_size"] = self._batch_size
        if self._network.classes[level] >= TOP5_FROM:
            row["top5"] = float(found.top5[..., level].mean())
        if found.weights is not None:
            row |= {
                "gate_mean": float(found.weights.mean()),
                "gate_std": float(found.weights.std()),
            }
        if self._network.random:
            row |= {"draws": len(top1), "top1_draws_ci95": draws_interval(top1)}
        opened = found.opened
        if found.choice is not None:
            row |= self._choices(found.choice)
            opened = None  # one of several candidates is no share of them
        if opened is not None:
            row |= self._shares(subnet, row["macs_mean"])
        flat = None if opened is None else opened.reshape(-1, opened.shape[-1])
        used = usage(flat, budget)
        if opened is None:
            used["achieved"] = own_budget(subnet)  # of a fixed set it is known
        gated = [s.name for s in self._network.segments(subnet) if s.role == "gated"]
        return {**row, **used, **usage_of_blocks(flat, gated, self._costs.blocks(subnet))}

    def _shares(self, subnet: Subnet, macs: float) -> Row:
        """Mean MACs beside those of the network that decides nothing."""
        whole, gates = self._costs.undecided(subnet), self._costs.cost(subnet).gates
        return {"macs_share": macs / whole, "macs_share_without_gates": (macs - gates) / whole}

    def _choices(self, choice: npt.NDArray[np.int32]) -> Row:
        """What is told of the candidates that images chose, (draws, n)."""
        counts = np.bincount(choice.ravel(), minlength=len(self._network.candidates))
        return {
            "choices": (counts / choice.size).tolist(),
            "macs_chosen_mean": float(self._costs.of_choice(choice).mean()),
        }

    def _named(self, level: int) -> Row:
        """What tells the rows of several label levels apart."""
        name = self._dataset.level_names[level]
        return {"level": level, "level_name": name} if self._levels > 1 else {}


def _group(
    subnets: tuple[Subnet, ...], budgets: tuple[float | None, ...]
) -> list[tuple[float | None, tuple[Subnet, ...]]]:
    """What is predicted in one call: a budget and operating points that are batched alike."""
    implied = tuple(subnet for subnet in subnets if own_budget(subnet) is not None)
    rest = tuple(subnet for subnet in subnets if subnet not in implied)
    groups = [(budget, rest) for budget in budgets if rest]
    return [*groups, *((None, (subnet,)) for subnet in implied)]


def _mean_draw(values: npt.NDArray[Any]) -> Floats:
    """(draws, n, ...) -> (n, ...)."""
    mean: Floats = values.mean(0, dtype=np.float64)
    return mean
