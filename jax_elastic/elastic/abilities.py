"""What a family can offer beside `Family`; the rest asks for it where it is of use."""

from typing import Protocol, runtime_checkable

from jax_elastic.elastic.family import Array, Aux, Batch, BNMode, Carry, Draw, Family, Variables
from jax_elastic.subnet import Subnet

TARGET = "target"
"""The objective of a `Targeted` family that trains the one point it is aimed at."""


@runtime_checkable
class WithBanks(Protocol):
    """What a family with BN banks can offer, so that one bank can stand for another."""

    def bank_at(self, subnet: Subnet, path: tuple[str, ...]) -> int | None:
        """Which bank an operating point reads of the BN layer at a path, from 0.

        Banks of one layer have the same shape. None where the layer has none, or is not read.
        """
        ...


@runtime_checkable
class Targeted(Protocol):
    """What a family can offer that can be aimed at one of its operating points.

    It is the same network then, with the same variables, but reports show that point, and the
    objective `TARGET`, one of its `objectives`, trains no other.
    """

    @property
    def aim(self) -> Subnet | None:
        """The one operating point that is to be served; None where all are."""
        ...

    def aimed(self, subnet: Subnet | None) -> Family:
        """The same network aimed at a point, or at none.

        Raises:
          UsageError: it does not have that point.
        """
        ...


@runtime_checkable
class BeginsAnew(Protocol):
    """What a family can offer of whose variables some are a run's own, not the network's."""

    @property
    def begins_anew(self) -> tuple[str, ...]:
        """Their paths, e.g. ``stats/stem/bn/mean``.

        Each run begins with them as its config says, whatever weights it starts from.
        """
        ...


class StagedFamily(Family, Protocol):
    """A family that can also be trained segment by segment; `forms` has `staged`.

    The code of every segment is a `TrainCode`. What reaches it is all that it knows of the
    operating point: its draws have no `values`. The two segments before it decide of which shapes
    that is, so that a few programs serve all points.
    """

    def score(
        self, carry: Carry, batch: Batch, objective: str
    ) -> tuple[Array, dict[str, tuple[Array, Array]]]:
        """The loss of what the last segment handed on, a scalar, and its sums."""
        ...


@runtime_checkable
class Switching(Protocol):
    """A family that itself switches between slices for a traced draw, in the form `scan_switch`.

    For spaces too large for a switch over all of their points. One program, as of the others; its
    memory is the family's to tell.
    """

    def switched_loss(
        self,
        variables: Variables,
        batch: Batch,
        draw: Draw,
        key: Array,
        objective: str,
        bn: BNMode,
    ) -> tuple[Array, Aux]:
        """`Family.loss` of a draw whose `where` is given."""
        ...
