"""Accuracy, usage and MACs per operating point and budget, over every image of a split."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from jax_elastic.data.augment import normalise
from jax_elastic.data.datasets import DataConfig, Dataset
from jax_elastic.data.order import padded_batches
from jax_elastic.elastic.doors import check_budget, check_statistics
from jax_elastic.elastic.family import Array, Family, Prediction, Variables
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.macs import Cost
from jax_elastic.subnet import Subnet

Row = dict[str, Any]
Predict = Callable[[Variables, Array, tuple[Subnet, ...], Array | None], tuple[Prediction, ...]]
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
      rows: one per budget and subnet; keys `subnet, n, top1, top1_ci95, top5 (from 20 classes),
        blocks_total, blocks_mean, blocks_std, blocks_p99, macs_mean, macs_std, asked, achieved,
        achieved_std, achieved_p99, tracking_error, reached` (error up to `REACHED`). Shares are
        in [0, 1], MACs per image; std and p99 are over images. Keys of blocks and budgets are
        None where there are none.
      opened: per row bool (n, N), which blocks each image opened; None without gates.
    """

    rows: list[Row]
    opened: list[npt.NDArray[np.bool_] | None]


class Evaluator:
    """Evaluates a network on a split; compiled once, called with any variables.

    Args:
      network: the family.
      dataset: the split; every image is counted, the last batch is padded and masked.
      data: how images are normalised.
      subnets: operating points; None for the fullest.
      budgets: shares of the blocks to ask for; None for `network.budgets`.
      batch_size: images per call.
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
        predict: Predict | None = None,
    ):
        self._network, self._dataset, self._data = network, dataset, data
        self._subnets = tuple(subnets or [network.subnets.fullest])
        asked = network.budgets if budgets is None or len(budgets) == 0 else budgets
        self._budgets: tuple[float | None, ...] = tuple(asked) or (None,)
        for subnet in self._subnets:
            network.check(subnet)
        for budget in self._budgets:
            check_budget(network, budget)
        self._batch_size = batch_size
        self._predict = predict or jax.jit(network.predict, static_argnums=2)
        costs = CostModel(network, dataset.images.shape[1:])
        self._costs = {subnet: costs.cost(subnet) for subnet in self._subnets}
        self._candidates = np.array([costs.cost(subnet).full for subnet in network.candidates])

    def __call__(self, variables: Variables) -> Evaluation:
        """Evaluates variables.

        Raises:
          UsageError: an operating point reads BN statistics that were never estimated, or the
            logits are not finite.
        """
        for subnet in self._subnets:
            check_statistics(self._network, variables, subnet)
        rows, opened = [], []
        for budget in self._budgets:
            for subnet, found in zip(self._subnets, self._run(variables, budget), strict=True):
                rows.append(self._row(subnet, budget, found))
                opened.append(found.opened)
        return Evaluation(rows, opened)

    def _run(self, variables: Variables, budget: float | None) -> list["_Found"]:
        asked = None if budget is None else jnp.float32(budget)
        parts: list[list[_Found]] = [[] for _ in self._subnets]
        for batch in padded_batches(self._dataset, self._batch_size):
            there = batch["mask"] > 0
            images = normalise(jnp.asarray(batch["image"]), self._data)
            predictions = self._predict(variables, images, self._subnets, asked)
            for part, prediction in zip(parts, predictions, strict=True):
                part.append(_read(prediction, batch["labels"], there))
        return [_Found.concatenate(part) for part in parts]

    def _row(self, subnet: Subnet, budget: float | None, found: "_Found") -> Row:
        cost = self._costs[subnet]
        macs = self._macs(cost, found)
        row = {
            "subnet": str(subnet),
            "n": len(found.top1),
            "top1": float(found.top1.mean()),
            "top1_ci95": confidence_interval(int(found.top1.sum()), len(found.top1)),
            "macs_mean": float(macs.mean()),
            "macs_std": float(macs.std()),
            "asked": budget,
        }
        if self._network.classes[0] >= TOP5_FROM:
            row["top5"] = float(found.top5.mean())
        return {**row, **usage(found.opened, budget)}

    def _macs(self, cost: Cost, found: "_Found") -> npt.NDArray[np.float64]:
        """MACs of each image, (n,)."""
        if found.choice is not None:
            return self._candidates[found.choice] + cost.gates
        if found.opened is not None:
            return cost.of(found.opened)
        return np.full(len(found.top1), float(cost.full))


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


@dataclasses.dataclass(frozen=True)
class _Found:
    """Per image: hits (n,), hits among five (n,), open blocks (n, N), choice (n,)."""

    top1: npt.NDArray[np.bool_]
    top5: npt.NDArray[np.bool_]
    opened: npt.NDArray[np.bool_] | None
    choice: npt.NDArray[np.int32] | None

    @staticmethod
    def concatenate(parts: list["_Found"]) -> "_Found":
        def join(name: str) -> Any:
            arrays = [getattr(part, name) for part in parts]
            return None if arrays[0] is None else np.concatenate(arrays)

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
    gates, choice = prediction.gates, prediction.choice
    return _Found(
        top1=right[:, 0],
        top5=right.any(1),
        opened=None if gates is None else np.asarray(gates)[there] >= 0,
        choice=None if choice is None else np.asarray(choice)[there],
    )
