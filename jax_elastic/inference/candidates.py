"""Operating points worth choosing between, from the table that a search left."""

from pathlib import Path

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.pareto import front, thinned
from jax_elastic.evaluation.rows import read_json
from jax_elastic.subnet import Subnet


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
