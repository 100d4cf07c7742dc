"""Engines: one call that runs a trained network at an operating point and a budget."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from jax_elastic.elastic.doors import (
    check_budget,
    check_images,
    check_statistics,
    naming_channels,
)
from jax_elastic.elastic.family import Array, Family, Prediction, Variables
from jax_elastic.elastic.points import BLOCKS, capacity, own_budget, passing
from jax_elastic.elastic.runs import stack_runs
from jax_elastic.errors import UsageError
from jax_elastic.inference.auto import Auto, Calibrated, Chooser, Fixed, Prepared, gated_blocks
from jax_elastic.inference.calibrate import Inputs
from jax_elastic.inference.program import inject, program
from jax_elastic.inference.ways import Bucketed, Compacted, Gathered, Masked, SkippingWay
from jax_elastic.subnet import Subnet

POINTS = 64  # operating points that an engine keeps ready


class Engine:
    """A network ready to predict; built by `build_engine`.

    An operating point is prepared when it is first asked for, which copies the weights that it
    reads; the `POINTS` that were used last are kept. One program serves all budgets and all
    patterns of gates of a point and batch size; see `PROGRAMS`.

    Args:
      network: the family.
      variables: its arrays.
      name: in `ENGINES`.
      chooser: of the way through gated segments.
      subnets: operating points to prepare now. A single one is what calls run that name none.

    Attributes:
      name: as given.
    """

    def __init__(
        self,
        network: Family,
        variables: Variables,
        name: str,
        chooser: Chooser,
        subnets: Sequence[Subnet] = (),
    ):
        self.name = name
        self._network, self._variables, self._chooser = network, variables, chooser
        self._told: dict[Subnet, str] = {}
        self._points: OrderedDict[Subnet, _Point] = OrderedDict()
        self._default = subnets[0] if len(subnets) == 1 else network.shown[-1]
        for subnet in subnets:
            self._ready(subnet)

    @property
    def why(self) -> str:
        """What was chosen in the calls so far, and why: a line for each choice."""
        return "\n".join(filter(None, [*self._told.values(), self._chooser.why]))

    def __call__(
        self,
        images: Array,
        subnet: Subnet | None = None,
        budget: float | None = None,
        gates: Array | None = None,
        keys: Array | None = None,
    ) -> Prediction:
        """Predicts a batch.

        Args:
          images: float (B, H, W, channels), normalised as in training.
          subnet: an operating point; None for the single one that the engine was built for, or
            else for the fullest of `Family.shown`.
          budget: the share of the blocks to spend, in [0, 1], for networks that take one.
          gates: bool (B, N) that replace the network's own decisions, for checks.
          keys: (B,), one `jax.random` key per image, for networks whose gates are random.

        Returns:
          The prediction; its gate logits are the network's own even where `gates` replaced them,
          and 1 or -1 where the operating point lets a share of the batch pass.

        Raises:
          UsageError: an empty batch, images of other channels than the network was made for, a
            wrong subnet or budget, gates or keys of another shape or dtype, BN statistics that were
            never estimated, or a trial is due under `jax.jit`.
        """
        check_images(images)
        subnet = subnet or self._default
        if not isinstance(subnet, Subnet):
            raise UsageError(
                f"subnet {subnet!r} is no operating point",
                next_step=f"pass jax_elastic.Subnet.parse({str(subnet)!r})",
            )
        point = self._ready(subnet)
        check_budget(self._network, budget, subnet)
        self._check_keys(keys, len(images))
        _check_gates(gates, point, len(images))
        inputs = self._inputs(images, subnet, budget, keys)
        injected = inject(gates, len(images), point.blocks)
        with naming_channels(self._network, self._variables, images):
            run = point.program(self._way(point, inputs))
            return run(point.prepared[1], images, inputs.budget, injected, keys)

    def way(
        self,
        images: Array,
        subnet: Subnet | None = None,
        budget: float | None = None,
        keys: Array | None = None,
    ) -> SkippingWay:
        """How a call with these arguments goes through gated segments; they are not checked."""
        subnet = subnet or self._default
        return self._way(self._ready(subnet), self._inputs(images, subnet, budget, keys))

    def _way(self, point: "_Point", inputs: Inputs) -> SkippingWay:
        subnet, share = point.subnet, capacity(point.subnet)
        if not point.blocks:
            self._told[subnet] = f"{subnet}: no gate decides, so there is one way"
            return Masked()
        if share is not None and self.name not in ("masked", "auto"):
            self._told[subnet] = f"{subnet}: those who pass are gathered"
            return Gathered(passing(share, len(inputs.images)))
        return self._chooser(point.prepared, subnet, inputs)

    def _inputs(
        self, images: Array, subnet: Subnet, budget: float | None, keys: Array | None
    ) -> Inputs:
        asked = own_budget(subnet) if budget is None else budget
        return Inputs(images, None if asked is None else np.float32(asked), keys)

    def _check_keys(self, keys: Array | None, size: int) -> None:
        shape = None if keys is None else keys.shape
        wanted = (size,) if self._network.random else None
        if shape != wanted:
            raise UsageError(
                "keys are missing" if keys is None else f"keys have shape {shape}",
                "this network's gates are random" if wanted else "this network draws nothing",
                f"pass jax.random.split(jax.random.key(0), {size})" if wanted else "leave keys out",
            )

    def _ready(self, subnet: Subnet) -> "_Point":
        if subnet not in self._points:
            self._points[subnet] = self._prepare(subnet)
            if len(self._points) > POINTS:
                self._points.popitem(last=False)
        self._points.move_to_end(subnet)
        return self._points[subnet]

    def _prepare(self, subnet: Subnet) -> "_Point":
        check_statistics(self._network, self._variables, subnet)
        point = _Point(subnet, stack_runs(self._network.segments(subnet), self._variables))
        if self.name == "static" and point.blocks:
            raise UsageError(
                f"engine static cannot run {subnet}, where gates decide for each image",
                f"points without gates, such as {BLOCKS}:1,0,... (in Python, subnets=[point])",
                "or take another engine",
            )
        return point


class _Point:
    """An operating point that was checked and made ready.

    Args:
      subnet: the point.
      prepared: its runs and their arrays.

    Attributes:
      subnet: as given.
      prepared: as given.
      blocks: how many gated segments there are.
    """

    def __init__(self, subnet: Subnet, prepared: Prepared):
        self.subnet, self.prepared, self.blocks = subnet, prepared, gated_blocks(prepared[0])
        self._way: SkippingWay | None = None
        self._run: Callable[..., Prediction]

    def program(self, way: SkippingWay) -> Callable[..., Prediction]:
        """The program for a way; the last one is at hand, for looking runs up takes a while."""
        if way is not self._way:
            self._way, self._run = way, program(self.prepared[0], way, capacity(self.subnet))
        return self._run


def _check_gates(gates: Array | None, point: _Point, size: int) -> None:
    if gates is None:
        return
    if capacity(point.subnet) is not None:
        raise UsageError(f"gates were given, but {point.subnet} decides which images pass")
    if gates.dtype != bool:
        raise UsageError(f"gates are {gates.dtype}", "bool", "pass prediction.gates >= 0")
    if gates.shape != (size, point.blocks):
        raise UsageError(f"gates have shape {gates.shape}", f"({size}, {point.blocks}) here")


ENGINES: dict[str, str] = {
    "auto": "the quickest here, by short trials at the first call",
    "masked": "computes every block and chooses afterwards: the oracle of the others",
    "compacted": "gathers the open images of a block into micro-batches",
    "sequential": "the same image by image",
    "bucketed": "gathers the open images of a block into one of a few fixed sizes",
    "static": "for operating points without gates: a program for each, nothing to decide",
}
"""Engine name -> what it does."""


def build_engine(
    network: Family,
    variables: Variables,
    engine: str = "auto",
    subnets: Sequence[Subnet] | None = None,
    *,
    batch_size: int | None = None,
    usage: float | None = None,
) -> Engine:
    """An engine for a trained network; all compute the same function (law 1).

    `auto` and `compacted` calibrate themselves at the first call for an operating point and shape
    of images: they compile and time a few programs for each kind of block, seconds for small
    networks and minutes for large ones. `Engine.why` says what was found. Sums of floats may round
    otherwise in another engine, and so after another calibration.

    Args:
      network: the family.
      variables: its arrays.
      engine: a name in `ENGINES`.
      subnets: operating points to check and prepare now; None for the fullest of
        `Family.shown`. Others are prepared when they are first asked for. A single one is what
        calls run that name none.
      batch_size: to calibrate for, once; None for that of each call, where every new size is
        calibrated for.
      usage: the share of the blocks that `auto` expects to be open; None for the budget, or where
        there is none for what the first images open.

    Raises:
      UsageError: an unknown engine or operating point, one whose BN statistics were never
        estimated, one with gates for `static`, or a batch size or usage out of range.
    """
    if engine not in ENGINES:
        raise UsageError(f"unknown engine {engine!r}", "one of " + ", ".join(ENGINES))
    if batch_size is not None and not (isinstance(batch_size, int) and batch_size > 0):
        raise UsageError(f"batch_size {batch_size!r} is no number of images", "1 or more")
    if usage is not None and not 0 <= usage <= 1:
        raise UsageError(f"usage {usage:g} is no share of the blocks", "in [0, 1]")
    choosers: dict[str, Callable[[], Chooser]] = {
        **{name: partial(Fixed, Masked(), f"{name}: as asked") for name in ("masked", "static")},
        "auto": lambda: Auto(network, variables, batch_size, usage),
        "compacted": lambda: Calibrated(batch_size),
        "sequential": lambda: Fixed(Compacted(default=1), "sequential: as asked"),
        "bucketed": lambda: Fixed(Bucketed(), "bucketed: as asked"),
    }
    wanted = [network.shown[-1]] if subnets is None else subnets
    return Engine(network, variables, engine, choosers[engine](), wanted)
