"""Which operating points are Pareto-optimal: nothing is as good that costs less."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from jax_elastic.evaluation.rows import Row

T = TypeVar("T")


def on_front(rows: Sequence[Row], cost: str = "macs_mean") -> list[bool]:
    """Which rows are Pareto-optimal: none is as accurate for less, or better for as much.

    Of equals in both all are.

    Args:
      rows: with `top1` and a cost each.
      cost: the field that is to be low, e.g. ``ms``.
    """
    best = -np.inf
    found = [False] * len(rows)
    costs: dict[float, list[int]] = {}
    for i, row in enumerate(rows):
        costs.setdefault(row[cost], []).append(i)
    for one in sorted(costs):
        top = max(rows[i]["top1"] for i in costs[one])
        if top > best:
            best = top
            for i in costs[one]:
                found[i] = rows[i]["top1"] == top
    return found


def front(rows: Sequence[Row], cost: str = "macs_mean") -> list[Row]:
    """The Pareto-optimal rows, cheapest first; see `on_front`."""
    kept = [row for row, best in zip(rows, on_front(rows, cost), strict=True) if best]
    return sorted(kept, key=lambda row: float(row[cost]))


def thinned(items: Sequence[T], most: int) -> list[T]:
    """At most so many of some things, two or more: the ends, and of the others evenly."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]
