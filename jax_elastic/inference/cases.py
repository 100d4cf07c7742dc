"""What a latency table times: operating points, budgets and engines, checked before any work."""

import dataclasses
from collections.abc import Sequence

from jax_elastic.elastic.doors import check_budget
from jax_elastic.elastic.family import Family
from jax_elastic.elastic.points import all_blocks, couples, gated_codes, own_budget
from jax_elastic.errors import UsageError
from jax_elastic.inference.auto import suits_buckets
from jax_elastic.inference.engine import ENGINES
from jax_elastic.inference.program import PROGRAMS
from jax_elastic.subnet import Subnet

MOST_POINTS = 64  # that are measured where none is named

Point = tuple[Subnet, float | None]
"""An operating point and the budget that is asked for, None where there is none to ask for."""


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed at one batch size.

    Attributes:
      subnet: the operating point.
      budget: the share of the blocks that is asked for, or None.
      engine: its name.
      dense: whether it is the form in whose times the others are told.
    """

    subnet: Subnet
    budget: float | None
    engine: str
    dense: bool = False


Plan = dict[int, tuple[Case, ...]]
"""Batch size -> what is timed with it."""


def plan(
    network: Family,
    batch_sizes: Sequence[int],
    subnets: Sequence[Subnet] = (),
    budgets: Sequence[float] = (),
    engines: Sequence[str] = (),
    only: Subnet | None = None,
) -> Plan:
    """The cases of each batch size, the dense form first.

    That is every block open and no gate asked, where the network has it, by `static`; of one that
    chooses among candidates the dearest of them, alone, by `static`, because no image is run at
    all of them; else the fullest point, or the `only` one, by `masked`. Points without gates are
    run by `static` alone, and those that let a share of a batch pass by `masked` and one other,
    because the others do the same.

    Args:
      network: the family.
      batch_sizes: images per call; at least one.
      subnets: operating points; none for all of the network's.
      budgets: shares of the blocks; none for `network.budgets`.
      engines: for points with gates; none for those that `auto` has to choose from.
      only: the one operating point that there are statistics for, where `subnets` names no
        other: the others are then told in its times.

    Raises:
      UsageError: the network cannot take what is asked for, there is no such engine or batch size,
        or there are more cases than programs are kept.
    """
    if not batch_sizes or min(batch_sizes) < 1:
        asked = ", ".join(map(str, batch_sizes))
        raise UsageError(f"batch sizes {asked or 'are missing'}", "one or more, each 1 or more")
    _check_engines(engines)
    points = _points(network, subnets, budgets)
    dense = _dense(network, budgets, only)
    found: Plan = {}
    for size in dict.fromkeys(batch_sizes):
        cases = [
            Case(subnet, budget, engine)
            for subnet, budget in points
            for engine in _engines_of(network, subnet, engines or _default_engines(size))
        ]
        others = [case for case in cases if dataclasses.replace(case, dense=True) != dense]
        found[size] = (dense, *others)
        _check_programs(found[size])
    return found


def _points(
    network: Family, subnets: Sequence[Subnet], budgets: Sequence[float]
) -> tuple[Point, ...]:
    if not subnets and len(network.subnets) > MOST_POINTS:
        raise UsageError(
            f"this network has {len(network.subnets):,} operating points",
            f"up to {MOST_POINTS} are measured where none is named",
            "name some by --subnet, separated by ;",
        )
    return points_of(network, subnets or tuple(network.subnets), budgets)


def points_of(
    network: Family, subnets: Sequence[Subnet], budgets: Sequence[float]
) -> tuple[Point, ...]:
    """Operating points with each budget that they take, each pair once.

    Args:
      network: the family.
      subnets: operating points.
      budgets: shares of the blocks; none for `network.budgets`.

    Raises:
      UsageError: the network cannot take what is asked for.
    """
    for given in budgets:
        check_budget(network, given)
    points: list[Point] = []
    for subnet in subnets:
        network.check(subnet)
        asked = asked_of(network, budgets) if own_budget(subnet) is None else (None,)
        for budget in asked:
            check_budget(network, budget, subnet)
            points.append((subnet, budget))
    return tuple(dict.fromkeys(points))


def asked_of(network: Family, budgets: Sequence[float]) -> tuple[float | None, ...]:
    """The budgets to ask a network for: those given, else its own; (None,) where it takes none."""
    return tuple(budgets or network.budgets) or (None,)


def _dense(network: Family, budgets: Sequence[float], only: Subnet | None) -> Case:
    fullest = only or network.subnets.fullest
    highest = max(asked_of(network, budgets), key=lambda asked: asked or 0)
    if not gated_codes(network, fullest):
        return Case(fullest, highest, "static", dense=True)
    point = None if only else _ungated(network)
    return Case(point, None, "static", True) if point else Case(fullest, highest, "masked", True)


def _ungated(network: Family) -> Subnet | None:
    """The most that an image can get of a network with gates, without one; None if it has none."""
    return network.candidates[-1] if network.candidates else all_blocks(network)


def _default_engines(size: int) -> tuple[str, ...]:
    """What `auto` has to choose from."""
    return ("masked", "compacted", *(["bucketed"] if suits_buckets(size) else []))


def _check_engines(engines: Sequence[str]) -> None:
    known = [name for name in ENGINES if name != "auto"]
    for name in engines:
        if name == "auto":
            raise UsageError("engine auto only chooses among others", "one of " + ", ".join(known))
        if name not in known:
            raise UsageError(f"unknown engine {name!r}", "one of " + ", ".join(known))


def _engines_of(network: Family, subnet: Subnet, engines: Sequence[str]) -> tuple[str, ...]:
    if not gated_codes(network, subnet):
        return ("static",)
    gated = [name for name in dict.fromkeys(engines) if name != "static"]
    if not gated:
        raise UsageError(
            f"engine static cannot run {subnet}, where gates decide for each image",
            next_step="name another engine by --engines, for example masked",
        )
    if couples(subnet):
        skipping = [name for name in gated if name != "masked"]
        return tuple(name for name in gated if name not in skipping[1:])
    return tuple(gated)


def _check_programs(cases: Sequence[Case]) -> None:
    """Refuses what would be compiled again and again because too few programs are kept."""
    programs = len({(case.subnet, case.engine) for case in cases})
    if programs > PROGRAMS:
        raise UsageError(
            f"that makes {programs} pairs of operating point and engine",
            f"up to {PROGRAMS} are measured in turn",
            "name fewer by --subnet or --engines",
        )
