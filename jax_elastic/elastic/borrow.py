"""Unsafe on purpose: banks that were never trained take another's parameters and statistics.

A network that was trained at one operating point has BN banks that no step ever reached, and every
door refuses them. To see what such a network does elsewhere, they can be filled with those of a
bank that was trained. What it answers then is no property of its own: it is told beside every
number.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from jax_elastic.elastic.abilities import WithBanks
from jax_elastic.elastic.doors import check_statistics
from jax_elastic.elastic.family import Family, Variables
from jax_elastic.elastic.reads import unestimated
from jax_elastic.errors import UsageError
from jax_elastic.layers.banks import bn_layers, fill_bank
from jax_elastic.subnet import Subnet


def borrow_banks(
    network: Family, variables: Variables, bank_of: Subnet, points: Sequence[Subnet]
) -> Variables:
    """Fills the banks that operating points read and that were never estimated. Unsafe.

    Args:
      network: the family.
      variables: its arrays, concrete.
      bank_of: the operating point whose banks are taken; of each layer the one that it reads.
      points: the operating points to be run.

    Returns:
      The variables with these banks filled; what was estimated, and every bank that none of
      `points` reads, as it was.

    Raises:
      UsageError: see `check_borrowing`.
    """
    check_borrowing(network, variables, bank_of, points)
    filled: Any = variables
    for point in borrowing(network, variables, points):
        at, of = (partial(cast(WithBanks, network).bank_at, p) for p in (point, bank_of))
        filled = fill_bank(filled, at, of)
    return cast(Variables, filled)


def check_borrowing(
    network: Family, variables: Variables, bank_of: Subnet, points: Sequence[Subnet]
) -> None:
    """Refuses what `borrow_banks` cannot do; arguments are the same.

    Raises:
      UsageError: the network has no banks that can stand for each other, it does not have one of
        the operating points, the banks of `bank_of` were themselves never estimated, or nothing
        is to be filled.
    """
    for point in (bank_of, *points):
        network.check(point)
    layers = bn_layers(variables["stats"])
    if not isinstance(network, WithBanks) or all(
        network.bank_at(bank_of, path) is None for path in layers
    ):
        raise UsageError(
            "this network has no BN banks that can stand for each other",
            next_step=f"leave the bank of {bank_of} out",
        )
    check_statistics(network, variables, bank_of)
    if not borrowing(network, variables, points):
        named = ", ".join(map(str, points))
        raise UsageError(
            f"every bank of {named} was estimated, so none is filled with that of {bank_of}",
            next_step="leave the bank of another out",
        )


def borrowing(
    network: Family, variables: Variables, points: Sequence[Subnet]
) -> tuple[Subnet, ...]:
    """Those of some operating points that read statistics which were never estimated."""
    return tuple(point for point in points if unestimated(network, variables, point) is not None)
