"""Operating points that a network with gates has beside its `subnets`.

- ``blocks:1,0,1,...`` opens a fixed set of its N gated blocks for every image: no gate is asked.
- ``capacity:0.5`` lets a fixed share of a batch pass each block, the images of the highest gate
  logits: the time is known beforehand, but what an image gets depends on its batch.

They lie outside `subnets`, because training does not draw them and a search does not list them.
Both imply a budget, which counts where none is given.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import jax.numpy as jnp

from jax_elastic.elastic.family import (
    Array,
    Carry,
    Family,
    GatedCode,
    PyTree,
    Segment,
    Variables,
)
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Space, Subnet

BLOCKS, CAPACITY = "blocks", "capacity"


def check_point(subnet: Subnet, subnets: Space, blocks: int) -> None:
    """Refuses what is neither in `subnets` nor one of the points above.

    Args:
      subnet: the operating point.
      subnets: the network's own.
      blocks: N, its gated blocks.

    Raises:
      UsageError: the network does not have the operating point.
    """
    if subnet.axis == BLOCKS:
        if len(subnet.value) != blocks or any(value not in (0, 1) for value in subnet.value):
            raise UsageError(
                f"operating point {subnet} does not fit this network",
                f"{BLOCKS}: takes {blocks} numbers, 1 for each block that runs, 0 for the others",
            )
    elif subnet.axis == CAPACITY:
        if len(subnet.value) != 1 or not 0 < subnet.value[0] <= 1:
            raise UsageError(
                f"operating point {subnet} does not fit this network",
                f"{CAPACITY}: takes one number in (0, 1], for example {CAPACITY}:0.5",
            )
    elif subnet not in subnets:
        raise UsageError(
            f"operating point {subnet} does not fit this network",
            f"it takes {subnets.fullest}, {CAPACITY}:share, or {BLOCKS}:1,0,... with a number for "
            f"each of its {blocks} blocks",
        )


def capacity(subnet: Subnet) -> float | None:
    """The share of a batch that passes each block; None where each image decides for itself."""
    return float(subnet.value[0]) if subnet.axis == CAPACITY else None


def couples(subnet: Subnet) -> bool:
    """Whether what an image gets depends on the other images of its batch."""
    return capacity(subnet) is not None


def own_budget(subnet: Subnet) -> float | None:
    """The budget that an operating point implies: the share of the blocks, or of the batch."""
    implied = subnet.axis in (BLOCKS, CAPACITY)
    return float(sum(subnet.value) / len(subnet.value)) if implied else None


def passing(share: float, size: int) -> int:
    """How many images of a batch pass under a capacity: the share of `size`, rounded up."""
    return max(1, math.ceil(share * size - 1e-9))  # .1 x 30 is 3, whatever floats say


def highest(logits: Array, share: float) -> Array:
    """Which images pass: those of the highest logits, of equal ones the first; NaN comes last.

    Args:
      logits: (B,).
      share: in (0, 1].

    Returns:
      bool (B,), `passing(share, B)` of them True.
    """
    order = jnp.argsort(-logits, stable=True)
    ranks = jnp.argsort(order)
    return ranks < passing(share, len(logits))


def gated_codes(network: Family, subnet: Subnet) -> tuple[GatedCode, ...]:
    """The computations of an operating point's gated segments, in their order."""
    codes: list[Any] = [s.code for s in network.segments(subnet) if s.role == "gated"]
    return tuple(codes)


def all_blocks(network: Family) -> Subnet | None:
    """The point that opens every gated block and asks no gate; None if the network has none."""
    point = Subnet(BLOCKS, (1,) * len(gated_codes(network, network.subnets.fullest)))
    try:
        network.check(point)
    except UsageError:
        return None
    return point


class FixableCode(GatedCode, Protocol):
    """The code of a gated segment that can also be open, or closed, for every image."""

    @property
    def idle(self) -> bool:
        """Whether `skip` hands on what it gets, so that a closed segment is nothing at all."""
        ...

    def reads(self, module: str, opened: bool) -> bool:
        """Whether `open`, or else `skip`, reads the arrays of a module of the segment."""
        ...


@dataclasses.dataclass(frozen=True)
class ClosedCode:
    """A gated segment that is closed for every image.

    Attributes:
      code: the segment's own.
    """

    code: GatedCode

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """The shortcut, see `Code`."""
        return self.code.skip(own, carry)


@dataclasses.dataclass(frozen=True)
class TakeRead:
    """Cuts out what a fixed segment reads.

    Attributes:
      segment: the gated one.
      opened: whether it is open.
    """

    segment: Segment
    opened: bool

    def __call__(self, variables: Variables) -> PyTree:
        """The ``{"params", "stats"}`` of the modules that are read."""
        code: Any = self.segment.code
        own = self.segment.take(variables)

        def read(modules: dict[str, PyTree]) -> dict[str, PyTree]:
            return {name: part for name, part in modules.items() if code.reads(name, self.opened)}

        return {name: read(own[name]) for name in variables if name in own}


def with_fixed_blocks(segments: Sequence[Segment], subnet: Subnet) -> tuple[Segment, ...]:
    """The segments of a network at a ``blocks`` point.

    Args:
      segments: where each image decides for itself; the code of the gated ones is `FixableCode`.
      subnet: the point.

    Returns:
      The same without plans; each gated segment is fixed, open or closed. A closed one that does
      nothing is left out, so that equal open ones still follow each other.
    """
    opened = iter(subnet.value)
    found = []
    for segment in segments:
        if segment.role == "fixed":
            found.append(segment)
        elif segment.role == "gated":
            found += _fixed(segment, bool(next(opened)))
    return tuple(found)


def _fixed(segment: Segment, opened: bool) -> list[Segment]:
    code: Any = segment.code
    if opened:
        return [Segment(f"{segment.name}-open", code, TakeRead(segment, True))]
    if code.idle:
        return []
    return [Segment(f"{segment.name}-closed", ClosedCode(code), TakeRead(segment, False))]
