"""How engines choose their way through gated segments: fixed, calibrated, or the quickest."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jax_elastic.elastic.family import Family, Prediction, Variables
from jax_elastic.elastic.points import BLOCKS, capacity, passing
from jax_elastic.elastic.runs import Run, stack_runs
from jax_elastic.errors import UsageError
from jax_elastic.inference.calibrate import ROUNDS, Inputs, micro_batches, random_gates
from jax_elastic.inference.program import program
from jax_elastic.inference.timing import interleaved
from jax_elastic.inference.ways import Bucketed, Compacted, Gathered, Masked, SkippingWay
from jax_elastic.subnet import Subnet

PyTree = Any
Prepared = tuple[tuple[Run, ...], tuple[PyTree, ...]]
LOW = 0.25  # usage of the cheaper trial; the other opens everything
DENSE = "dense"

_log = logging.getLogger(__name__)


class Chooser(Protocol):
    """Chooses the way through the gated segments of an operating point."""

    def __call__(self, prepared: Prepared, subnet: Subnet, inputs: Inputs) -> SkippingWay:
        """The way for these inputs; `prepared` is from `stack_runs`."""
        ...

    @property
    def why(self) -> str:
        """What was chosen so far, a line for each operating point and batch size."""
        ...


@dataclasses.dataclass(frozen=True)
class Fixed:
    """Always the same way.

    Attributes:
      way: that way.
      why: see `Chooser`.
    """

    way: SkippingWay
    why: str

    def __call__(self, prepared: Prepared, subnet: Subnet, inputs: Inputs) -> SkippingWay:
        """See `Chooser`."""
        del prepared, subnet, inputs
        return self.way


class Calibrated:
    """`Compacted`, its micro-batches from a calibration at the first call of each kind.

    Args:
      batch_size: to calibrate for; None for that of each call.
    """

    def __init__(self, batch_size: int | None):
        self._batch_size = batch_size
        self._found: dict[Any, Compacted] = {}

    def __call__(self, prepared: Prepared, subnet: Subnet, inputs: Inputs) -> Compacted:
        """See `Chooser`."""
        size = self._batch_size or len(inputs.images)
        key = subnet, size, inputs.images.shape[1:], inputs.images.dtype
        if key not in self._found:
            self._found[key] = micro_batches(*prepared, inputs.of_size(size))
        return self._found[key]

    @property
    def why(self) -> str:
        """See `Chooser`."""
        return "\n".join(
            f"compacted for {subnet}, batches of {size}: micro-batches of "
            + ", ".join(str(micro) for _, micro in way.sizes)
            for (subnet, size, *_), way in self._found.items()
        )


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a way takes, in times of the network with all blocks open and no gate asked.

    Attributes:
      way: through gated segments.
      low: at a usage of `LOW`.
      full: with every gate open.
    """

    way: SkippingWay
    low: float
    full: float

    def at(self, usage: float) -> float:
        """Expected at a usage, on the line through both."""
        return self.low + (self.full - self.low) * (usage - LOW) / (1 - LOW)


class Auto:
    """The quickest of all ways at the expected usage, by trials at the first call of each kind.

    The usage that is expected is the one that was told, else the budget, else what the images of
    the first call open.

    Args:
      network: the family.
      variables: its arrays.
      batch_size: to calibrate for; None for that of each call.
      usage: share of the blocks that is expected to be open, or None.
    """

    def __init__(
        self, network: Family, variables: Variables, batch_size: int | None, usage: float | None
    ):
        self._network, self._variables = network, variables
        self._batch_size, self._usage = batch_size, usage
        self._compacted = Calibrated(batch_size)
        self._trials: dict[Any, Mapping[str, Trial]] = {}
        self._seen: dict[Any, float] = {}
        self._picked: dict[Any, str] = {}

    def __call__(self, prepared: Prepared, subnet: Subnet, inputs: Inputs) -> SkippingWay:
        """See `Chooser`."""
        size = len(inputs.images)
        if capacity(subnet) is None:  # of which the way itself depends on the size
            size = self._batch_size or size
        key = subnet, size, inputs.images.shape[1:], inputs.images.dtype
        batch = inputs.of_size(size)
        if key not in self._trials:
            self._trials[key] = self._try(prepared, subnet, batch)
        trials, usage = self._trials[key], self._expected(prepared, subnet, batch, key)
        best = quickest(trials, usage)
        if (*key, best) not in self._picked:
            text = why(trials, usage, f"{subnet}, batches of {size}")
            self._picked[*key, best] = text
            _log.info(text)
        return trials[best].way

    @property
    def why(self) -> str:
        """See `Chooser`."""
        return "\n".join(self._picked.values())

    def _try(self, prepared: Prepared, subnet: Subnet, inputs: Inputs) -> Mapping[str, Trial]:
        runs, owns = prepared
        size, blocks, share = len(inputs.images), gated_blocks(runs), capacity(subnet)
        ways: dict[str, SkippingWay] = {"masked": Masked()}
        if share is not None:
            ways["gathered"] = Gathered(passing(share, size))
        else:
            ways["compacted"] = self._compacted(prepared, subnet, inputs)
            if jax.default_backend() != "cpu" and size > 1:
                ways["bucketed"] = Bucketed()
        timed: dict[Any, Callable[[], object]] = {
            (name, usage): _call(
                program(runs, way, share),
                owns,
                inputs,
                random_gates(size, blocks, usage) if share is None else None,
            )
            for name, way in ways.items()
            for usage in (LOW, 1.0)
        }
        timed[DENSE] = self._dense(prepared, blocks, inputs)
        seconds = interleaved(timed, ROUNDS)
        ratios = {name: float(np.median(s / seconds[DENSE])) for name, s in seconds.items()}
        return {
            name: Trial(way, ratios[name, LOW], ratios[name, 1.0]) for name, way in ways.items()
        }

    def _dense(self, prepared: Prepared, blocks: int, inputs: Inputs) -> Callable[[], object]:
        """All blocks and no gate; with gates where the network cannot do without."""
        point = Subnet(BLOCKS, (1,) * blocks)
        try:
            self._network.check(point)
        except UsageError:
            runs, owns = prepared
        else:
            runs, owns = stack_runs(self._network.segments(point), self._variables)
        return _call(program(runs, Masked()), owns, inputs, None)

    def _expected(self, prepared: Prepared, subnet: Subnet, inputs: Inputs, key: Any) -> float:
        for known in (capacity(subnet), self._usage, inputs.budget):
            if known is not None:
                return float(known)
        if key not in self._seen:
            runs, owns = prepared
            found = program(runs, Masked())(owns, inputs.images, None, None, inputs.keys)
            self._seen[key] = float((np.asarray(found.gates) >= 0).mean())
        return self._seen[key]


def quickest(trials: Mapping[str, Trial], usage: float) -> str:
    """The name of the way that is expected to take least at a usage."""
    return min(trials, key=lambda name: trials[name].at(usage))


def why(trials: Mapping[str, Trial], usage: float, what: str) -> str:
    """Says what is picked, and why."""
    best = quickest(trials, usage)
    times = ", ".join(f"{name} {trial.at(usage):.2f}" for name, trial in trials.items())
    text = (
        f"{best} for {what} on {jax.default_backend()}: expected with {usage:.0%} of the blocks "
        f"open, in times of all blocks without gates: {times}"
    )
    if trials[best].at(usage) > 1:
        text += "; slower than without gates, so skipping gains nothing here"
    return text


def gated_blocks(runs: Sequence[Run]) -> int:
    """How many gated segments there are."""
    return sum(run.length for run in runs if run.role == "gated")


def _call(
    run: Callable[..., Prediction], owns: tuple[PyTree, ...], inputs: Inputs, gates: Any
) -> Callable[[], object]:
    return lambda: jax.block_until_ready(
        run(owns, inputs.images, inputs.budget, gates, inputs.keys)
    )
