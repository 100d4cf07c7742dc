"""Latency tables: what operating points and engines take on this device, and how good they are.

Timed is a call of an `Engine`, door to door, with images of the validation split that are
normalised and lie on the device already. Accuracy is of the same split (law 7).
"""

import os
import time
from typing import Any

import jax
import numpy as np
import numpy.typing as npt

from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.elastic.family import Family, Variables
from jax_elastic.elastic.points import couples, gated_codes
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.evaluation.levels import at_finest
from jax_elastic.evaluation.rows import Row
from jax_elastic.inference.calls import Calls, Clock, batches_of
from jax_elastic.inference.cases import Case, Plan
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.timing import interleaved
from jax_elastic.subnet import Subnet

Floats = npt.NDArray[np.float64]
ROUNDS = 30
EVALUATED = 256  # images per call of the evaluation


def measure(
    network: Family,
    variables: Variables,
    dataset: Dataset,
    data: DataConfig,
    cases: Plan,
    rounds: int = ROUNDS,
    clock: Clock = time.perf_counter,
) -> list[dict[str, Any]]:
    """Times all cases of a batch size in turn: a round sends one batch through each of them.

    Args:
      network: the family.
      variables: its arrays.
      dataset: the validation split; its images are taken in turn, at the end from the first again.
      data: how they are normalised.
      cases: from `plan`.
      rounds: how often; each case is called before, which compiles and calibrates.
      clock: seconds.

    Returns:
      A row per case; keys `subnet, asked, engine, batch_size, ms_median, ms_p99` (of a call),
      `ms_per_image` (from the median), `time_ratio` (the median over the rounds of the time in
      times of the dense form), `macs_mean` (of the images that were timed), `mac_ratio` (to the
      most that an image costs in the dense form), `executed_macs_mean` (per image, of the
      micro-batches that ran), `achieved` (share of the blocks open), `top1, top1_ci95, n` (these
      four of the whole split, top1 at the finest label level), `dense, rounds, device, load` (of
      the machine in the minute before).
      `asked` and `achieved` are None where there is none.

    Raises:
      UsageError: no round, an operating point reads BN statistics that were never estimated, or
        the logits are not finite.
    """
    if rounds < 1:
        raise UsageError(f"{rounds} rounds measure nothing", "1 or more")
    found = _evaluate(network, variables, dataset, data, cases)
    costs = _Costs(network, dataset.images.shape[1:])
    rows = []
    for size, own in cases.items():
        where = {"rounds": rounds, "device": describe_device(), "load": os.getloadavg()[0]}
        batches = batches_of(network, dataset, data, size, rounds + 1)
        engines = {
            name: build_engine(network, variables, name, [], batch_size=size)
            for name in sorted({case.engine for case in own})
        }
        calls = {
            case: Calls(engines[case.engine], case.subnet, case.budget, batches, clock)
            for case in own
        }
        interleaved(calls, rounds)
        (dense,) = (case for case in own if case.dense)
        for case in own:
            of_split = found[_key(case.subnet, case.budget, size)]
            rows.append(
                {
                    "subnet": str(case.subnet),
                    "asked": case.budget,
                    "engine": case.engine,
                    "batch_size": size,
                    **times(calls[case].seconds, calls[dense].seconds, size),
                    **costs(case, dense, calls[case]),
                    **{key: of_split[key] for key in ("achieved", "top1", "top1_ci95", "n")},
                    "dense": case.dense,
                    **where,
                }
            )
    return rows


def times(seconds: Floats, dense: Floats, batch_size: int) -> dict[str, float]:
    """The keys of time of a row of `measure`.

    Args:
      seconds: of calls, (rounds,).
      dense: of the dense form in the same rounds, (rounds,).
      batch_size: images per call.
    """
    median = 1e3 * float(np.median(seconds))
    return {
        "ms_median": median,
        "ms_p99": 1e3 * float(np.quantile(seconds, 0.99, method="higher")),
        "ms_per_image": median / batch_size,
        "time_ratio": float(np.median(seconds / dense)),
    }


def describe_device() -> str:
    """What engines run on, e.g. ``cpu, 8 CPU cores``."""
    return f"{jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores"


class _Costs:
    """The keys of MACs of a row of `measure`."""

    def __init__(self, network: Family, image_shape: tuple[int, ...]):
        self._network = network
        self._nominal = CostModel(network, image_shape)
        self._executed = CostModel(network, image_shape, executed=True)

    def __call__(self, case: Case, dense: Case, calls: Calls) -> dict[str, float]:
        opened, choice = calls.opened, calls.choice
        macs = float(self._nominal.of_images(case.subnet, calls.shape, opened, choice).mean())
        return {
            "macs_mean": macs,
            "mac_ratio": macs / self._nominal.most(dense.subnet),
            "executed_macs_mean": self._ran(case.subnet, calls),
        }

    def _ran(self, subnet: Subnet, calls: Calls) -> float:
        opened, size = calls.opened, calls.shape[1]
        if opened is None:
            return float(self._executed.of_images(subnet, calls.shape, None, calls.choice).mean())
        counts, way, cost = opened.sum(1), calls.way, self._executed.cost(subnet)
        computed = [
            way.computed(code, counts[:, n], size).mean() / size
            for n, code in enumerate(gated_codes(self._network, subnet))
        ]
        return float(cost.fixed + cost.gates + np.dot(cost.blocks, computed))


def _evaluate(
    network: Family, variables: Variables, dataset: Dataset, data: DataConfig, cases: Plan
) -> dict[Any, Row]:
    """Rows of the evaluator by `_key`: one of each point, of coupling ones for each batch size."""
    own = [case for of_size in cases.values() for case in of_size]
    budgets = [b for b in dict.fromkeys(case.budget for case in own) if b is not None]
    subnets = dict.fromkeys(case.subnet for case in own)
    coupled = [subnet for subnet in subnets if couples(subnet)]
    groups = [([s for s in subnets if not couples(s)], min(EVALUATED, len(dataset)))]
    groups += [(coupled, size) for size in cases if coupled]
    found: dict[Any, Row] = {}
    for group, size in groups:
        rows = at_finest(Evaluator(network, dataset, data, group, budgets, size)(variables).rows)
        for subnet in group:
            own_rows = [row for row in rows if row["subnet"] == str(subnet)]
            found |= {_key(subnet, row["asked"], size): row for row in own_rows}
    return found


def _key(subnet: Subnet, budget: float | None, size: int) -> Any:
    """What an accuracy depends on."""
    return subnet, budget, size if couples(subnet) else None
