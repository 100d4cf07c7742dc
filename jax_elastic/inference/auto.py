"""How engines choose their way through gated segments: fixed, calibrated, or the quickest."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jax_elastic.elastic.family import Family, Variables
from jax_elastic.elastic.points import all_blocks, capacity, passing
from jax_elastic.elastic.runs import Run, stack_runs
from jax_elastic.inference.calibrate import ROUNDS, Inputs, micro_batches, random_gates
from jax_elastic.inference.program import inject, program
from jax_elastic.inference.timing import interleaved
from jax_elastic.inference.ways import Bucketed, Compacted, Gathered, Masked, SkippingWay
from jax_elastic.subnet import Subnet

PyTree = Any
Prepared = tuple[tuple[Run, ...], tuple[PyTree, ...]]
LOW = 0.25  # usage of the cheaper trial; the other opens everything

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
    """What a way takes, in times of the network with all blocks open.

    Attributes:
      way: through gated segments.
      low: at a usage of `LOW`.
      full: with every gate open.
    """

    way: SkippingWay
    low: float
    full: float

    def at(self, usage: float) -> float:
        """Expected at a usage, on the line through both, but never less than nothing."""
        return max(0.0, self.low + (self.full - self.low) * (usage - LOW) / (1 - LOW))


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
        if key not in self._trials:
            self._trials[key] = self._try(prepared, subnet, inputs.of_size(size))
        trials = self._trials[key]
        usage, source = self._expected(prepared, subnet, inputs, key)
        best = quickest(trials, usage)
        if (*key, best) not in self._picked:
            gates = "with" if all_blocks(self._network) is None else "without"
            text = why(trials, usage, f"{subnet}, batches of {size}", source, gates)
            self._picked[*key, best] = text
            _log.info(text)
        return trials[best].way

    @property
    def why(self) -> str:
        """See `Chooser`."""
        return "\n".join(self._picked.values())

    def _try(self, prepared: Prepared, subnet: Subnet, inputs: Inputs) -> Mapping[str, Trial]:
        share, dense = capacity(subnet), all_blocks(self._network)
        ways = self._ways(prepared, subnet, inputs)
        timed: dict[Any, Callable[[], object]] = {
            (name, usage): _call(prepared, way, share, inputs, usage)
            for name, way in ways.items()
            for usage in ((LOW, 1.0) if share is None else (1.0,))
        }
        baseline = prepared
        if dense is not None:
            baseline = stack_runs(self._network.segments(dense), self._variables)
        timed["dense"] = _call(baseline, Masked(), None, inputs, 1.0)
        seconds = interleaved(timed, ROUNDS)
        ratios = {name: float(np.median(s / seconds["dense"])) for name, s in seconds.items()}
        return {
            name: Trial(way, ratios.get((name, LOW), ratios[name, 1.0]), ratios[name, 1.0])
            for name, way in ways.items()
        }

    def _ways(self, prepared: Prepared, subnet: Subnet, inputs: Inputs) -> dict[str, SkippingWay]:
        size, share = len(inputs.images), capacity(subnet)
        if share is not None:
            return {"masked": Masked(), "gathered": Gathered(passing(share, size))}
        compacted = self._compacted(prepared, subnet, inputs)
        ways: dict[str, SkippingWay] = {"masked": Masked(), "compacted": compacted}
        return ways | ({"bucketed": Bucketed()} if suits_buckets(size) else {})

    def _expected(
        self, prepared: Prepared, subnet: Subnet, inputs: Inputs, key: Any
    ) -> tuple[float, str]:
        """The usage, and how it is known."""
        share = capacity(subnet)
        if share is not None:
            return share, "the capacity"
        if self._usage is not None:
            return self._usage, "as told"
        if inputs.budget is not None:
            return float(inputs.budget), "the budget"
        if key not in self._seen:
            runs, owns = prepared
            gates = inject(None, len(inputs.images), gated_blocks(runs))
            found = program(runs, Masked())(owns, inputs.images, None, gates, inputs.keys)
            self._seen[key] = float((np.asarray(found.gates) >= 0).mean())
        return self._seen[key], "of the first images"


def suits_buckets(size: int) -> bool:
    """Whether `Bucketed` is worth a try for batches of a size: where a host steers the device."""
    return jax.default_backend() != "cpu" and size > 1


def quickest(trials: Mapping[str, Trial], usage: float) -> str:
    """The name of the way that is expected to take least at a usage."""
    return min(trials, key=lambda name: trials[name].at(usage))


def why(
    trials: Mapping[str, Trial], usage: float, what: str, source: str, gates: str = "without"
) -> str:
    """Says what is picked, and why.

    Args:
      trials: of the ways.
      usage: share of the blocks that is expected to be open.
      what: is run.
      source: how the usage is known.
      gates: whether the network that the times are told in is `with` or `without` gates.
    """
    best = quickest(trials, usage)
    times = ", ".join(f"{name} {trial.at(usage):.2f}" for name, trial in trials.items())
    text = (
        f"{best} for {what} on {jax.default_backend()}: expected with {usage:.0%} of the blocks "
        f"open ({source}), in times of all blocks {gates} gates: {times}"
    )
    if trials[best].at(usage) > 1:
        text += "; slower than that, so skipping gains nothing here"
    return text


def gated_blocks(runs: Sequence[Run]) -> int:
    """How many gated segments there are."""
    return sum(run.length for run in runs if run.role == "gated")


def _call(
    prepared: Prepared, way: SkippingWay, share: float | None, inputs: Inputs, usage: float
) -> Callable[[], object]:
    """A call with random gates of a usage; under a capacity, with the network's own."""
    runs, owns = prepared
    size, blocks = len(inputs.images), gated_blocks(runs)
    gates = random_gates(size, blocks, usage) if share is None else None
    injected, run = inject(gates, size, blocks), program(runs, way, share)
    return lambda: jax.block_until_ready(
        run(owns, inputs.images, inputs.budget, injected, inputs.keys)
    )
