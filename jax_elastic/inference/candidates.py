"""Operating points worth choosing between, from the table that a search left."""

from pathlib import Path

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.pareto import front, thinned
from jax_elastic.inference.table import read_table
from jax_elastic.subnet import Subnet

BY_NAME = "name the candidates: --subnet='a;b;c'"


def from_search(path: Path, checkpoint: str, most: int) -> tuple[Subnet, ...]:
    """The Pareto front of a search by MACs and top-1 on validation data, cheapest first.

    Args:
      path: what `search` wrote.
      checkpoint: hash of the variables that the table has to be of.
      most: of a longer front so many points are taken, both ends among them.

    Raises:
      UsageError: there is no such table, it is of other variables, or of BN statistics that its
        points have there alone.
    """
    rows = list(read_table(path).values())
    if any(row.get("hash") != checkpoint for row in rows):
        raise UsageError(
            f"{path} is of another checkpoint", next_step=f"search again, or {BY_NAME}"
        )
    # A workdir that was itself recalibrated has the statistics that its rows are of.
    if any(row.get("recalibrated_images") and "recalibrated" not in row for row in rows):
        raise UsageError(
            f"the points of {path} were recalibrated, each for itself; their accuracies do not "
            "hold for the statistics of this workdir",
            next_step=f"{BY_NAME}; or delete that table, and search without --recalibrate",
        )
    return tuple(Subnet.parse(row["subnet"]) for row in thinned(front(rows, "macs"), most))
