"""Latency tables: what operating points and engines take on this device, and how good they are.

Timed is a call of an `Engine`, door to door, with images of the validation split that are
normalised and lie on the device already. Accuracy is of the same split (law 7).
"""

import itertools
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jax_elastic import rng
from jax_elastic.data.augment import normalise
from jax_elastic.data.datasets import DataConfig, Dataset
from jax_elastic.elastic.family import Array, Family, Prediction, Variables
from jax_elastic.elastic.points import couples, gated_codes
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.evaluation.levels import at_finest
from jax_elastic.evaluation.rows import Row
from jax_elastic.inference.cases import Case, Plan
from jax_elastic.inference.engine import Engine, build_engine
from jax_elastic.inference.timing import interleaved
from jax_elastic.inference.ways import SkippingWay
from jax_elastic.subnet import Subnet

Floats = npt.NDArray[np.float64]
Clock = Callable[[], float]
ROUNDS = 30
LED_BELOW = 0.02  # seconds: calls that are shorter are timed right after another of their kind
EVALUATED = 256  # images per call of the evaluation
KEPT = 2**29  # bytes of images that lie on the device


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
      dense form's), `executed_macs_mean` (per image, of the micro-batches that ran), `achieved`
      (share of the blocks open), `top1, top1_ci95, n` (these four of the whole split, top1 at the
      finest label level), `dense, rounds, device, load` (of the machine in the minute before).
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
        batches = _batches(network, dataset, data, size, rounds + 1)
        engines = {
            name: build_engine(network, variables, name, [], batch_size=size)
            for name in sorted({case.engine for case in own})
        }
        calls = {case: _Calls(engines[case.engine], case, batches, clock) for case in own}
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


class _Batch(NamedTuple):
    """Images (B, H, W, channels), and where a network is random their keys (B,)."""

    images: Array
    keys: Array | None


class _Calls:
    """A case that is called with one batch after the other; remembers times and what was opened.

    It reads the clock itself, so that a short call may follow another one that is not timed: else
    it would find its weights in the caches where many cases share them, and not where few do.
    """

    def __init__(self, engine: Engine, case: Case, batches: Sequence[_Batch], clock: Clock):
        self._engine, self._case, self._batches, self._clock = engine, case, batches, clock
        self._next = itertools.cycle(batches)
        self._seconds: list[float] = []
        self._found: list[Prediction] = []

    def __call__(self) -> None:
        batch = next(self._next)
        if not self._seconds or self._seconds[-1] < LED_BELOW:
            self._run(batch)
        begun = self._clock()
        found = self._run(batch)
        self._seconds.append(self._clock() - begun)
        self._found.append(found._replace(logits=()))

    def _run(self, batch: _Batch) -> Prediction:
        subnet, budget = self._case.subnet, self._case.budget
        found = self._engine(batch.images, subnet, budget, keys=batch.keys)
        jax.block_until_ready(found)
        return found

    @property
    def seconds(self) -> Floats:
        """Of each call after the first: (calls,)."""
        return np.array(self._seconds[1:])

    @property
    def opened(self) -> npt.NDArray[np.bool_] | None:
        """Bool (calls, B, N) after the first call; None without gates."""
        gates = [found.gates for found in self._found[1:] if found.gates is not None]
        return np.stack(gates) >= 0 if gates else None

    @property
    def choice(self) -> npt.NDArray[np.int32] | None:
        """Int (calls, B) after the first call; None where nothing is chosen."""
        choices = [found.choice for found in self._found[1:] if found.choice is not None]
        return np.stack(choices) if choices else None

    @property
    def shape(self) -> tuple[int, int]:
        """(calls, B) after the first call."""
        return len(self._found) - 1, len(self._batches[0].images)

    @property
    def way(self) -> SkippingWay:
        """Through gated segments; engines remember what they calibrated."""
        images, keys = self._batches[0]
        return self._engine.way(images, self._case.subnet, self._case.budget, keys)


class _Costs:
    """The keys of MACs of a row of `measure`."""

    def __init__(self, network: Family, image_shape: tuple[int, ...]):
        self._network = network
        self._nominal = CostModel(network, image_shape)
        self._executed = CostModel(network, image_shape, executed=True)

    def __call__(self, case: Case, dense: Case, calls: _Calls) -> dict[str, float]:
        opened, choice = calls.opened, calls.choice
        macs = float(self._nominal.of_images(case.subnet, calls.shape, opened, choice).mean())
        return {
            "macs_mean": macs,
            "mac_ratio": macs / self._nominal.cost(dense.subnet).full,
            "executed_macs_mean": self._ran(case.subnet, calls),
        }

    def _ran(self, subnet: Subnet, calls: _Calls) -> float:
        opened, size = calls.opened, calls.shape[1]
        if opened is None:
            return float(self._executed.of_images(subnet, calls.shape, None, calls.choice).mean())
        counts, way, cost = opened.sum(1), calls.way, self._executed.cost(subnet)
        computed = [
            way.computed(code, counts[:, n], size).mean() / size
            for n, code in enumerate(gated_codes(self._network, subnet))
        ]
        return float(cost.fixed + cost.gates + np.dot(cost.blocks, computed))


def _batches(
    network: Family, dataset: Dataset, data: DataConfig, size: int, most: int
) -> list[_Batch]:
    """Up to `most` batches, as many as fit in `KEPT`, on the device."""
    count = max(1, min(most, KEPT // (4 * size * math.prod(dataset.images.shape[1:]))))
    batches = []
    for i in range(count):
        ids = (i * size + np.arange(size, dtype=np.int32)) % len(dataset)
        keys = rng.image_keys(ids) if network.random else None
        batches.append(_Batch(normalise(jnp.asarray(dataset.images[ids]), data), keys))
    return batches


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
