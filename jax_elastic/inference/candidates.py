"""Operating points worth choosing between, from the table that a search left."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.pareto import front
from jax_elastic.evaluation.rows import read_json
from jax_elastic.subnet import Subnet

T = TypeVar("T")


def from_search(path: Path, checkpoint: str, most: int) -> tuple[Subnet, ...]:
    """The Pareto front of a search by MACs and top-1 on validation data, cheapest first.

    Args:
      path: what `search` wrote.
      checkpoint: hash of the variables that the table has to be of.
      most: of a longer front so many points are taken, both ends among them.

    Raises:
      UsageError: there is no such table, or it is of other variables.
    """
    rows = read_json(path, "search")
    if any(row.get("hash") != checkpoint for row in rows):
        raise UsageError(
            f"{path} is of another checkpoint",
            next_step="search again, or name the candidates: --subnet='a;b;c'",
        )
    return tuple(Subnet.parse(row["subnet"]) for row in thinned(front(rows, "macs"), most))


def thinned(items: Sequence[T], most: int) -> list[T]:
    """At most so many of some things, two or more: the ends, and of the others evenly."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]
