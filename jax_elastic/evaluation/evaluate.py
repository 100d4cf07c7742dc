"""Accuracy, usage and MACs per operating point and budget, over every image of a split.

Predictions are those of `Family.predict`, the masked forward; segments serve the costs alone.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from scipy.stats import t as student_t

from jax_elastic import rng
from jax_elastic.data.augment import normalise
from jax_elastic.data.datasets import DataConfig, Dataset
from jax_elastic.data.order import padded_batches
from jax_elastic.elastic.doors import check_budget, check_statistics
from jax_elastic.elastic.family import Array, Family, Prediction, Variables
from jax_elastic.elastic.points import couples, own_budget
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.subnet import Subnet

Row = dict[str, Any]
Predict = Callable[..., tuple[Prediction, ...]]
Floats = npt.NDArray[np.float64]
RANDOM_DRAWS = 10  # of a network whose gates are random, for every image
REACHED = 0.05  # tracking error up to which a budget counts as reached
USAGE_KEYS = (
    *("blocks_total", "blocks_mean", "blocks_std", "blocks_p99"),
    *("achieved", "achieved_std", "achieved_p99", "tracking_error", "reached"),
)
TOP5_FROM = 20  # classes; with fewer, top-5 says little


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluator found.

    Attributes:
      rows: one per budget and subnet, and one per subnet that implies its budget; keys `subnet, n,
        top1, top1_ci95, top5 (from 20 classes), blocks_total, blocks_mean, blocks_std, blocks_p99,
        macs_mean, macs_std, asked, achieved, achieved_std, achieved_p99, tracking_error, reached`
        (error up to `REACHED`). Shares are in [0, 1], MACs per image; std and p99 are over images.
        Keys of blocks and budgets are None where there are none. Where blocks are weighted also
        `gate_mean, gate_std`, of the weights over images and blocks. Where gates are random also
        `draws`, how often each image was drawn (top1 is the mean, std and p99 are over images and
        draws), and `top1_draws_ci95`, the interval that these draws alone leave (Student's t over
        the draws' accuracies). Where the images of a batch compete also `batch_size`; the last
        batch may be smaller.
      top1: per row float (n,), each image's hit, or its mean over the draws.
      opened: per row float (n, N), which blocks each image opened, or in which share of the
        draws; None without gates.
      macs: per row float (n,), what each image cost, on average over the draws.
      stages: per row, how many gated blocks each stage has, see `CostModel.stages`.
    """

    rows: list[Row]
    top1: list[Floats]
    opened: list[Floats | None]
    macs: list[Floats]
    stages: list[tuple[int, ...]]


class Evaluator:
    """Evaluates a network on a split; compiled once, called with any variables.

    Args:
      network: the family.
      dataset: the split; every image is counted, the last batch is padded and masked.
      data: how images are normalised.
      subnets: operating points; None for those of `Space.shown`.
      budgets: shares of the blocks to ask for; None for `network.budgets`.
      batch_size: images per call.
      draws: how often each image is drawn, where the network is `random`; the keys depend on the
        draw and on the image's place in the split alone.
      predict: what computes the predictions; None for `network.predict`, jitted.

    Raises:
      UsageError: an operating point or a budget that the network cannot take.
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
    ):
        self._network, self._dataset, self._data = network, dataset, data
        self._subnets = tuple(subnets or network.subnets.shown())
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
        self._predict = predict or jax.jit(network.predict, static_argnums=2)
        self._costs = CostModel(network, dataset.images.shape[1:])
        for subnet in self._subnets:
            self._costs.cost(subnet)  # what cannot be counted is refused before anything runs

    def __call__(self, variables: Variables) -> Evaluation:
        """Evaluates variables.

        Raises:
          UsageError: an operating point reads BN statistics that were never estimated, or the
            logits are not finite.
        """
        for subnet in self._subnets:
            check_statistics(self._network, variables, subnet)
        found = Evaluation([], [], [], [], [])
        for budget, subnets in self._asked:
            groups = zip(subnets, self._run(variables, budget, subnets), strict=True)
            for subnet, images in groups:
                opened, choice = images.opened, images.choice
                macs = self._costs.of_images(subnet, images.top1.shape, opened, choice)
                found.rows.append(self._row(subnet, budget, images, macs))
                found.top1.append(_mean_draw(images.top1))
                found.opened.append(None if opened is None else _mean_draw(opened))
                found.macs.append(_mean_draw(macs))
                found.stages.append(self._costs.stages(subnet))
        return found

    def _run(
        self, variables: Variables, budget: float | None, subnets: tuple[Subnet, ...]
    ) -> list["_Found"]:
        """What was found per subnet, draws first."""
        asked = None if budget is None else jnp.float32(budget)
        parts: list[list[list[_Found]]] = [[[] for _ in subnets] for _ in range(self._draws)]
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
                    found.append(_read(prediction, batch["labels"], there))
        return [
            _Found.stack([_Found.concatenate(part[j]) for part in parts])
            for j in range(len(subnets))
        ]

    def _keys(self, draw: int, start: int, size: int) -> Array | None:
        """One key for each of `size` images from image `start` on."""
        if not self._network.random:
            return None
        places = np.arange(start, start + size, dtype=np.int32)
        keys: Array = rng.image_keys(places, draw)
        return keys

    def _row(self, subnet: Subnet, budget: float | None, found: "_Found", macs: Floats) -> Row:
        top1 = found.top1.mean(1, dtype=float)  # of each draw
        hits = round(float(found.top1.mean(dtype=float) * found.top1.shape[1]))
        row = {
            "subnet": str(subnet),
            "n": found.top1.shape[1],
            "top1": float(top1.mean()),
            "top1_ci95": confidence_interval(hits, found.top1.shape[1]),
            "macs_mean": float(macs.mean()),
            "macs_std": float(macs.std()),
            "asked": budget,
        }
        if couples(subnet):
            row["batch_size"] = self._batch_size
        if self._network.classes[0] >= TOP5_FROM:
            row["top5"] = float(found.top5.mean())
        if found.weights is not None:
            row |= {
                "gate_mean": float(found.weights.mean()),
                "gate_std": float(found.weights.std()),
            }
        if self._network.random:
            row |= {"draws": len(top1), "top1_draws_ci95": draws_interval(top1)}
        opened = found.opened
        flat = None if opened is None else opened.reshape(-1, opened.shape[-1])
        used = usage(flat, budget)
        if opened is None:
            used["achieved"] = own_budget(subnet)  # of a fixed set it is known
        return {**row, **used}


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


def usage(opened: npt.NDArray[np.bool_] | None, budget: float | None) -> Row:
    """How much of a network was used: the keys of blocks and budgets of `Evaluation.rows`.

    Args:
      opened: (n, N), or None for a network without gates.
      budget: the share that was asked for, if any.
    """
    if opened is None:
        return dict.fromkeys(USAGE_KEYS)
    total = opened.shape[1]
    blocks = opened.sum(1)
    mean, std, p99 = float(blocks.mean()), float(blocks.std()), float(np.quantile(blocks, 0.99))
    return {
        "blocks_total": total,
        "blocks_mean": mean,
        "blocks_std": std,
        "blocks_p99": p99,
        "achieved": mean / total,
        "achieved_std": std / total,
        "achieved_p99": p99 / total,
        "tracking_error": None if budget is None else abs(mean / total - budget),
        "reached": None if budget is None else abs(mean / total - budget) <= REACHED,
    }


def confidence_interval(hits: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share: `hits` of `n`."""
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def draws_interval(top1: Floats) -> tuple[float, float]:
    """The 95 % t-interval of the mean over random draws: accuracies (draws,) of at least two."""
    mean, error = float(top1.mean()), float(top1.std(ddof=1)) / len(top1) ** 0.5
    reach = float(student_t.ppf(0.975, len(top1) - 1)) * error
    return max(0.0, mean - reach), min(1.0, mean + reach)


@dataclasses.dataclass(frozen=True)
class _Found:
    """What was read of each image, (n, ...), or after `stack` of each draw, (draws, n, ...).

    Hits (), hits among five (), open blocks (N), choice (), weights of blocks (N).
    """

    top1: npt.NDArray[np.bool_]
    top5: npt.NDArray[np.bool_]
    opened: npt.NDArray[np.bool_] | None
    choice: npt.NDArray[np.int32] | None
    weights: npt.NDArray[np.float32] | None

    @staticmethod
    def concatenate(parts: list["_Found"]) -> "_Found":
        """Joins batches."""
        return _Found._join(parts, np.concatenate)

    @staticmethod
    def stack(parts: list["_Found"]) -> "_Found":
        """Joins draws, along a new leading axis."""
        return _Found._join(parts, np.stack)

    @staticmethod
    def _join(parts: list["_Found"], how: Callable[..., Any]) -> "_Found":
        def join(name: str) -> Any:
            arrays = [getattr(part, name) for part in parts]
            return None if arrays[0] is None else how(arrays)

        return _Found(**{field.name: join(field.name) for field in dataclasses.fields(_Found)})


def _read(
    prediction: Prediction, labels: npt.NDArray[np.int32], there: npt.NDArray[np.bool_]
) -> _Found:
    logits = np.asarray(prediction.logits[0], np.float64)[there]
    if not np.isfinite(logits).all():
        raise UsageError(
            "the network's logits are not finite, so its accuracy means nothing",
            next_step="look at how its training ended",
        )
    best = np.argsort(-logits, axis=-1, kind="stable")[:, :5]
    right = best == labels[there, :1]
    gates, choice, weights = prediction.gates, prediction.choice, prediction.weights
    return _Found(
        top1=right[:, 0],
        top5=right.any(1),
        opened=None if gates is None else np.asarray(gates)[there] >= 0,
        choice=None if choice is None else np.asarray(choice)[there],
        weights=None if weights is None else np.asarray(weights)[there],
    )
