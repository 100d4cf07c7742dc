"""Operating points that a network with gates has beside its `subnets`.

- ``blocks:1,0,1,...`` opens a fixed set of its N gated blocks for every image: no gate is asked.
- ``capacity:0.5`` lets a fixed share of a batch pass each block, the images of the highest gate
  logits: the time is known beforehand, but what an image gets depends on its batch.

They lie outside `subnets`, because training does not draw them and a search does not list them.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jax_elastic.elastic.family import Array, Carry, GatedCode, PyTree, Segment
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
    return subnet.axis == CAPACITY


def own_budget(subnet: Subnet) -> float | None:
    """The budget that an operating point implies: the share of the blocks in a fixed set."""
    return sum(subnet.value) / len(subnet.value) if subnet.axis == BLOCKS else None


def passing(share: float, size: int) -> int:
    """How many images of a batch pass under a capacity: the share of `size`, rounded up."""
    return math.ceil(share * size - 1e-9)  # .1 x 30 is 3, whatever floats say


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


def with_fixed_blocks(segments: Sequence[Segment], subnet: Subnet) -> tuple[Segment, ...]:
    """The segments of a network at a ``blocks`` point.

    Args:
      segments: where each image decides for itself.
      subnet: the point.

    Returns:
      The same without plans; each gated segment is fixed, open or closed. They take what the
      gated ones take.
    """
    opened = iter(subnet.value)
    found = []
    for segment in segments:
        if segment.role == "gated":
            code: Any = segment.code
            found.append(
                Segment(segment.name, code if next(opened) else ClosedCode(code), segment.take)
            )
        elif segment.role == "fixed":
            found.append(segment)
    return tuple(found)
