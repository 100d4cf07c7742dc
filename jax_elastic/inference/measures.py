"""What a search knows of an operating point: its accuracy and cost, and its time where asked.

Accuracies are of the validation split (law 7).
"""

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.elastic.doors import check_estimated, check_variables
from jax_elastic.elastic.family import Family, Variables
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.by_segments import predictor
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.evaluation.levels import at_finest
from jax_elastic.evaluation.rows import Row
from jax_elastic.inference.calls import Calls, Clock, batches_of
from jax_elastic.inference.cases import Point
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.recalibrate import recalibrate
from jax_elastic.inference.timing import interleaved
from jax_elastic.subnet import Subnet

EVALUATED = 256  # images per call of the evaluation
KEPT = ("subnet", "asked", "achieved", "top1", "top1_ci95", "n")
"""The fields that a row has of the evaluator's."""

Rows = dict[Point, dict[str, Any]]
_Group = tuple[tuple[Point, ...], Variables]


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no truth value to compare by
class Recalibration:
    """What BN statistics are estimated from, anew for each operating point.

    Attributes:
      images: uint8 (N, H, W, channels), of the training split.
      batch_size: images that are normalised together; divides N.
    """

    images: npt.NDArray[np.uint8]
    batch_size: int


@dataclasses.dataclass(frozen=True)
class Timing:
    """How operating points are timed.

    Attributes:
      batch_size: images per call.
      rounds: calls of each point, in turn with the others that are measured at the same time.
      clock: seconds.
    """

    batch_size: int = 1
    rounds: int = 30
    clock: Clock = time.perf_counter


class Measures:
    """Measures operating points of a trained network.

    Args:
      network: the family.
      variables: its arrays.
      dataset: the split that tells accuracies.
      data: how images are normalised.
      recalibration: None to evaluate with the statistics of training.
      timing: None to time nothing.

    Attributes:
      costs: what the network's operating points cost.
    """

    def __init__(
        self,
        network: Family,
        variables: Variables,
        dataset: Dataset,
        data: DataConfig,
        recalibration: Recalibration | None = None,
        timing: Timing | None = None,
    ):
        self._network, self._variables = network, variables
        self._dataset, self._data = dataset, data
        self._recalibration, self._timing = recalibration, timing
        self._predict = predictor(network)
        self.costs = CostModel(network, dataset.images.shape[1:])

    def missing(self, row: Row | None) -> bool:
        """Whether something is still to be measured of an operating point with this row, if any."""
        return row is None or (self._timing is not None and row["ms"] is None)

    def __call__(self, points: Sequence[Point], known: Mapping[Point, Row]) -> Rows:
        """Measures what is missing of some operating points.

        Args:
          points: each once.
          known: rows of these or others, as they were measured before.

        Returns:
          A row of each point; keys `subnet, asked, achieved, top1, top1_ci95, n` as of
          `Evaluation.rows`, `macs` (mean over the images, gates included), `flops` (2 per MAC),
          `params` (that the point reads), and `ms` (median of a call), None where it was never
          timed. Of several label levels accuracies are those of the finest.

        Raises:
          UsageError: an operating point or budget that the network cannot take; BN statistics that
            were never estimated; activations that are not finite.
        """
        found = {point: dict(known[point]) for point in points if point in known}
        new = {point for point in points if point not in known}
        groups = self._prepared([point for point in points if self.missing(known.get(point))])
        for group, variables in groups:
            own = [point for point in group if point in new]
            found |= self._evaluated(own, variables)
        if self._timing is not None:
            for point, ms in self._timed(groups, self._timing).items():
                found[point]["ms"] = ms
        return {point: found[point] for point in points}

    def before(self, subnet: Subnet) -> Row:
        """What an operating point costs that can be told without running it.

        That is `params`, and where nothing is decided for single images `macs` and `flops`.
        """
        row: dict[str, Any] = {"params": self.costs.params(subnet)["params"]}
        decided = any(segment.role != "fixed" for segment in self._network.segments(subnet))
        if not decided and not self._network.candidates:
            macs = self.costs.cost(subnet).full
            row |= {"macs": macs, "flops": 2 * macs}
        return row

    def _prepared(self, points: Sequence[Point]) -> list[_Group]:
        """Operating points that are run with the same variables, with these."""
        how = self._recalibration
        if how is None:
            if not points:
                return []
            self._check(tuple(dict.fromkeys(subnet for subnet, _ in points)))
            return [(tuple(points), self._variables)]
        return [
            (
                (point,),
                recalibrate(
                    self._network,
                    self._variables,
                    point[0],
                    how.images,
                    budget=point[1],
                    batch_size=how.batch_size,
                    data=self._data,
                ),
            )
            for point in points
        ]

    def _check(self, subnets: Sequence[Subnet]) -> None:
        for subnet in subnets:
            self._network.check(subnet)
        check_variables(self._network, self._variables)
        try:
            for subnet in subnets:
                check_estimated(self._network, self._variables, subnet)
        except UsageError as error:
            raise UsageError(
                error.what,
                next_step="estimate them for each operating point before it is evaluated: "
                "--recalibrate=10000; or search among those that were trained, by --subnet",
            ) from None

    def _evaluated(self, points: Sequence[Point], variables: Variables) -> Rows:
        found: Rows = {}
        for budget, subnets in _by_budget(points).items():
            evaluator = Evaluator(
                self._network,
                self._dataset,
                self._data,
                subnets,
                None if budget is None else [budget],
                min(EVALUATED, len(self._dataset)),
                predict=self._predict,
                costs=self.costs,
            )
            rows = {row["subnet"]: row for row in at_finest(evaluator(variables).rows)}
            for subnet in subnets:
                row = rows[str(subnet)]
                macs = row["macs_mean"]
                found[subnet, budget] = {
                    **{key: row[key] for key in KEPT},
                    "macs": macs,
                    "flops": 2 * macs,
                    "params": self.costs.params(subnet)["params"],
                    "ms": None,
                }
        return found

    def _timed(self, groups: Iterable[_Group], how: Timing) -> dict[Point, float]:
        """Median milliseconds of a call of the quickest engine."""
        size = how.batch_size
        batches = batches_of(self._network, self._dataset, self._data, size, how.rounds + 1)
        calls: dict[Point, Calls] = {}
        for group, variables in groups:
            engine = build_engine(self._network, variables, "auto", [], batch_size=size)
            calls |= {point: Calls(engine, *point, batches, how.clock) for point in group}
        interleaved(calls, how.rounds)
        return {point: 1e3 * float(np.median(own.seconds)) for point, own in calls.items()}


def _by_budget(points: Sequence[Point]) -> dict[float | None, list[Subnet]]:
    """The operating points of each budget, those together that begin alike."""
    found: dict[float | None, list[Subnet]] = {}
    for subnet, budget in points:
        found.setdefault(budget, []).append(subnet)
    return {
        budget: sorted(subnets, key=lambda subnet: (subnet.axis, subnet.value))
        for budget, subnets in found.items()
    }
