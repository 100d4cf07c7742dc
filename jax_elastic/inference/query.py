"""Which row of a search's table is best within limits: pure functions over rows.

A limit is a number that the field of the same name may reach. Rows are those of a table; see
`jax_elastic.inference.table`.
"""

import math
from collections.abc import Mapping, Sequence

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import Row, name_point
from jax_elastic.evaluation.tables import format_count

Limits = Mapping[str, float]
"""Name in `LIMITED` -> the most that is allowed."""

LIMITED = {"macs": "MACs", "flops": "FLOPs", "ms": "ms", "params": "parameters"}
"""The fields of a row that can be limited, and how they are called."""


def check_limits(limits: Limits) -> None:
    """Refuses what is no limit.

    Raises:
      UsageError: it is not positive, or not finite.
    """
    for name, most in limits.items():
        if not 0 < most < math.inf:
            raise UsageError(
                f"max_{name} {most:g} is no limit", f"{LIMITED[name]}, a number above 0"
            )


def excess(row: Row, limits: Limits) -> float:
    """By how much a row exceeds limits: the largest share of a limit; 0 where it keeps them all.

    Limits of what a row does not tell are not looked at.
    """
    told = (float(row[n]) / most - 1 for n, most in limits.items() if row.get(n) is not None)
    return max([0.0, *told])


def within(rows: Sequence[Row], limits: Limits) -> Row | None:
    """The row of the best top-1 that keeps all limits; of equal top-1 that of fewer MACs.

    Rows that do not tell what is limited are left out. None where no row is left.
    """
    told = (row for row in rows if all(row.get(name) is not None for name in limits))
    fit = [row for row in told if all(row[name] <= most for name, most in limits.items())]
    return max(fit, key=lambda row: (row["top1"], -row["macs"]), default=None)


def choose(rows: Sequence[Row], limits: Limits) -> Row:
    """As `within`, for limits that some row keeps.

    Args:
      rows: with the fields `subnet, asked, top1, macs` and those that are limited; at least one.
      limits: none for the best of all.

    Raises:
      UsageError: a limit is no number above 0, or no row keeps them all; it names the row that
        comes nearest.
    """
    check_limits(limits)
    found = within(rows, limits)
    if found is None:
        raise none_fits(
            min(rows, key=lambda row: excess(row, limits)), limits, _alike(rows, limits)
        )
    return found


def _alike(rows: Sequence[Row], limits: Limits) -> tuple[str, ...]:
    """Of what is limited, that in which several rows do not differ."""
    return tuple(n for n in limits if len(rows) > 1 and len({row.get(n) for row in rows}) == 1)


def none_fits(nearest: Row, limits: Limits, alike: Sequence[str] = ()) -> UsageError:
    """The error where no operating point keeps the limits.

    Args:
      nearest: what comes nearest.
      limits: that it exceeds.
      alike: of what is limited, that which is the same at all operating points.
    """
    told = [name for name in LIMITED if name in limits and nearest.get(name) is not None]
    costs = " and ".join(format_cost(name, nearest[name]) for name in told)
    more = " or ".join(f"--max_{name}" for name in LIMITED if name in limits)
    return UsageError(
        f"no operating point keeps {describe_limits(limits)}",
        f"{name_point(nearest)} comes nearest, with {costs}"
        + "".join(f"; all points have as many {LIMITED[name]}" for name in alike),
        f"give more by {more}",
    )


def describe_limits(limits: Limits) -> str:
    """Limits in words: ``2.80 G MACs and 5 ms``."""
    return " and ".join(format_cost(n, limits[n]) for n in LIMITED if n in limits)


def format_cost(name: str, value: float) -> str:
    """A cost with its unit, e.g. ``2.80 G MACs``.

    Args:
      name: in `LIMITED`.
      value: of the field of that name.
    """
    number = f"{value:.3g}" if name == "ms" else format_count(value)
    return f"{number} {LIMITED[name]}"
