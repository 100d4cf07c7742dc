"""The seams: what a family of elastic networks gives, and what passes through the rest.

The loop, the evaluator, the counter and the engines know these types and nothing else of a
network. A family is a frozen dataclass of hyperparameters with the methods of `Family`.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, TypedDict

import jax
import numpy as np

from jax_elastic.subnet import Space, Subnet

Array = jax.Array
PyTree = Any
BNMode = Literal["batch", "running"]
Form = Literal["sliced", "scan_switch", "host", "staged", "scan", "vmap"]
STATIC_FORMS: frozenset[str] = frozenset({"sliced", "scan_switch", "host"})
"""Forms in which a loss is given `Draw.subnet`; a switch over all points is for small spaces."""
TRACED_FORMS: frozenset[str] = frozenset({"scan", "vmap"})
"""Forms in which it is given `Draw.where` instead: of families whose loss reads coordinates."""
BY_HOST: frozenset[str] = frozenset({"host", "staged"})
"""Forms in which the host calls what belongs to a draw, so that draws may change at will."""
Role = Literal["fixed", "gated", "plan"]
Carry = dict[str, Any]


class Variables(TypedDict):
    """A network's arrays: what is learnt (`params`) and what is estimated (`stats`)."""

    params: PyTree
    stats: PyTree


class Batch(TypedDict):
    """Images and their labels, on the device.

    Attributes:
      image: float (B, H, W, C), normalised.
      targets: one float (B, classes) per entry of `Family.targets`, the label levels first; rows
        sum to 1 (soft for MixUp).
      mask: float (B,), 0 for padding.
    """

    image: Array
    targets: tuple[Array, ...]
    mask: Array


class When(NamedTuple):
    """Where training is; the only way time reaches a family (through `draws`).

    Attributes:
      step: steps done since the start of training.
      epoch: passes over the training set done in all phases so far, a float.
      phase: the phase's name.
      phase_step: steps done in this phase.
      phase_epoch: passes done in this phase, a float.
      phase_steps: steps this phase has in all.
      objective: what the phase asks the family's loss for.
    """

    step: int
    epoch: float
    phase: str
    phase_step: int
    phase_epoch: float
    phase_steps: int
    objective: str


@partial(jax.tree_util.register_dataclass, data_fields=["where", "values"], meta_fields=["subnet"])
@dataclasses.dataclass(frozen=True)
class Draw:
    """One operating point of one training step: a pytree whose `subnet` is static structure.

    Attributes:
      subnet: the point, where the form is static; None where `where` is traced.
      where: its coordinates in `Family.subnets`, int32 (dims,), or None.
      values: numbers drawn on the host that the loss reads, e.g. ``{"budget": float32 ()}``.
    """

    subnet: Subnet | None
    where: np.ndarray | Array | None = None
    values: dict[str, Any] = dataclasses.field(default_factory=dict)


class Aux(NamedTuple):
    """What a loss returns beside its value; all of it is additive over draws.

    Attributes:
      moments: BN moments of this pass, see `jax_elastic.layers.norm`.
      sums: metric name -> (sum, count); the mean is taken only where it is shown.
    """

    moments: PyTree
    sums: dict[str, tuple[Array, Array]]


class Prediction(NamedTuple):
    """What a network says of a batch at one operating point.

    Attributes:
      logits: one float (B, classes) per label level.
      gates: gate logits, float (B, N), open iff >= 0; None without gates.
      choice: int (B,), index into `Family.candidates`; None where nothing is chosen.
      weights: float (B, N) in [0, 1], what blocks that run are multiplied by; None where they
        are taken whole. Only `Family.predict` gives it.
      earlier: at a point that answers more than once, the logits of the answers before the last,
        each as `logits`; elsewhere empty.
    """

    logits: tuple[Array, ...]
    gates: Array | None = None
    choice: Array | None = None
    weights: Array | None = None
    earlier: tuple[tuple[Array, ...], ...] = ()


class Code(Protocol):
    """A segment's computation: hashable, and shared by equal segments.

    `own` is what the segment's `take` returned, `carry` a dict of per-image arrays: the first
    segment receives what `first_carry` gives, the last returns ``{"logits": (...,)}``; the others
    hand on what they do not use up.
    Only `open` is asked of every code; `skip` and `gate` of gated ones; `train` of those that
    a form dispatches one by one.
    """

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """Computes the segment, with running BN statistics."""
        ...


class GatedCode(Code, Protocol):
    """The code of a segment that can be skipped per image."""

    def skip(self, own: PyTree, carry: Carry) -> Carry:
        """The shortcut alone."""
        ...

    def gate(self, own: PyTree, carry: Carry, budget: Array | None) -> Array:
        """The gate's logits, float (B,); the segment is open iff >= 0."""
        ...


class TrainCode(Code, Protocol):
    """The code of a segment that a training form runs by itself."""

    def train(self, own: PyTree, carry: Carry, key: Array, bn: BNMode) -> tuple[Carry, PyTree]:
        """The training forward of this segment alone, with its moments in the network's tree."""
        ...


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of a network between two places where an operating point can change something.

    Attributes:
      name: unique within a network; equal names take equal arrays.
      code: the computation.
      take: variables -> exactly the arrays that `code` reads.
      role: `fixed` always runs, `gated` is skipped per image, `plan` decides for others
        (its MACs count as gates).
    """

    name: str
    code: Code
    take: Callable[[Variables], PyTree]
    role: Role = "fixed"


class Family(Protocol):
    """A kind of elastic network: a frozen, hashable dataclass of hyperparameters."""

    def __hash__(self) -> int:
        """What is known of a network is kept by it."""
        ...

    @property
    def subnets(self) -> Space:
        """All operating points."""
        ...

    @property
    def shown(self) -> tuple[Subnet, ...]:
        """What a report of accuracy shows by default: what is to be served.

        Where all of `subnets` is, `Space.shown`. The last is taken where one is asked for.
        """
        ...

    @property
    def further(self) -> tuple[Subnet, ...]:
        """Points outside of `subnets` that a count shows, too; usually empty."""
        ...

    @property
    def forms(self) -> frozenset[str]:
        """The forms of `sum_of_grads` that are offered; `sliced` and `host` at least."""
        ...

    @property
    def candidates(self) -> tuple[Subnet, ...]:
        """What `Prediction.choice` indexes, cheapest first; usually empty.

        Of the gated segments of a network that chooses by gates each runs one of them, and at most
        one is open.
        """
        ...

    @property
    def objectives(self) -> tuple[str, ...]:
        """What a phase may ask `loss` for.

        The last is the one that is trained to be served: at an operating point its loss normalises
        what a test would show, so `Static.moments` are its.
        """
        ...

    @property
    def budgets(self) -> tuple[float, ...]:
        """The budgets a report shows by default; empty where the network takes none."""
        ...

    @property
    def random(self) -> bool:
        """Whether `predict` draws, and so needs keys."""
        ...

    @property
    def classes(self) -> tuple[int, ...]:
        """The number of classes of each label level."""
        ...

    @property
    def targets(self) -> tuple[int, ...]:
        """The number of classes of each target of a batch that the loss reads.

        `classes`, and behind them what the network is taught beside its label levels.
        """
        ...

    def check(self, subnet: Subnet) -> None:
        """Raises `UsageError` if this network does not have that operating point."""
        ...

    def reference(self) -> "Family":
        """The same network in the form whose MACs are counted: native, sliced, gather."""
        ...

    def init(self, key: Array, images: Array) -> Variables:
        """Fresh variables; `images` (B, H, W, C) gives the shapes.

        It takes squares of one of 8, 16, 32, 64, 128 and 256 pixels at least, so that doors that
        have no images yet can tell its arrays from those of another network.
        """
        ...

    def draws(self, rng: np.random.Generator, when: When) -> tuple[Draw, ...]:
        """The operating points of one step, drawn on the host."""
        ...

    def loss(
        self,
        variables: Variables,
        batch: Batch,
        draw: Draw,
        key: Array,
        objective: str,
        bn: BNMode,
    ) -> tuple[Array, Aux]:
        """The loss of one draw, a scalar, and its additive rest."""
        ...

    def predict(
        self,
        variables: Variables,
        images: Array,
        subnets: tuple[Subnet, ...],
        budget: Array | float | None,
        key: Array | None = None,
    ) -> tuple[Prediction, ...]:
        """The masked forward at test, one `Prediction` per subnet.

        `budget` is () or (B,). `key` is keys (B,), one per image, where the network is `random`:
        what an image draws does not depend on the batch it comes in.
        """
        ...

    def moments(
        self,
        variables: Variables,
        images: Array,
        subnet: Subnet,
        budget: Array | float | None,
        key: Array | None = None,
    ) -> PyTree:
        """The BN moments of the forward at test, were it normalised by its batch.

        Arguments are those of `predict`. Of layers that the operating point does not read the
        moments may be anything.
        """
        ...

    def segments(self, subnet: Subnet) -> tuple[Segment, ...]:
        """The network at one operating point, cut into segments in order of execution."""
        ...

    def fold(self, stats: PyTree, aux: Aux) -> PyTree:
        """The statistics after a step whose draws gave `aux`."""
        ...
