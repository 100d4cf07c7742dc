"""The table of a search: a row for each operating point, in a file that grows as they are measured.

It is plain data for what reads it later: kind ``search``, keys as `Measures` gives them and the
facts that are the same in all rows. A search that was stopped goes on from its table.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import Row, read_json, write_json
from jax_elastic.inference.cases import Point
from jax_elastic.inference.measures import Measures
from jax_elastic.subnet import Subnet

KIND = "search"
CHUNK = 32  # operating points that are measured together, and lost where it is stopped meanwhile


class Table:
    """Rows by operating point, as they lie in a file.

    Args:
      path: the file; read where there is one, written after each chunk.
      facts: what is the same in all rows, e.g. `hash` of the variables.
      timed: what is the same in all rows that have `ms`: `batch_size` and `device`; None where
        nothing is timed.

    Raises:
      UsageError: the file is no table, or its rows are of other facts: numbers that cannot be
        compared are not put into one table.
    """

    def __init__(self, path: Path, facts: Row, timed: Row | None = None):
        self._path, self._facts, self._of_time = path, dict(facts), dict(timed or {})
        rows = read_table(path) if path.exists() else {}
        for row in rows.values():
            told = self._facts | (self._of_time if row["ms"] is not None else {})
            _check_same(path, row, told)
        self._rows: dict[Point, Row] = rows

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order in which the points were measured first."""
        return list(self._rows.values())

    def fill(
        self,
        points: Sequence[Point],
        measures: Measures,
        report: Callable[[str], None] = lambda line: None,
    ) -> list[Row]:
        """The rows of some operating points; measures what is missing of them.

        Args:
          points: each once.
          measures: of the network that the facts are of.
          report: gets a line after each chunk.

        Raises:
          UsageError: see `Measures`.
        """
        missing = [point for point in points if measures.missing(self._rows.get(point))]
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            for point, row in measures(chunk, self._rows).items():
                of_time = {} if row["ms"] is None else self._of_time
                self._rows[point] = {**row, **self._facts, **of_time}
            write_json(self._path, KIND, self.rows)
            report(f"{start + len(chunk)} of {len(missing)} operating points")
        return [self._rows[point] for point in points]


def read_table(path: Path) -> dict[Point, Row]:
    """The rows of a table by operating point.

    Raises:
      UsageError: the file is no table of a search.
    """
    rows = read_json(path, KIND)
    return {(Subnet.parse(row["subnet"]), row["asked"]): row for row in rows}


def _check_same(path: Path, row: Row, facts: Row) -> None:
    for name, value in facts.items():
        if row.get(name) != value:
            raise UsageError(
                f"{path} is a table of {name} {row.get(name)}",
                f"this search is of {name} {value}, and a table has one",
                "delete it to begin anew, or keep another by --json=FILE",
            )
