"""The table of a search: a row for each operating point, in a file that grows as they are measured.

It is plain data for what reads it later: kind ``search``, keys as `Measures` gives them and the
facts that are the same in all rows. A search that was stopped goes on from its table. Times may be
of several devices and batch sizes, as each row with a time tells; a search sees those of its own.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import Row, read_json, write_json
from jax_elastic.inference.cases import Point
from jax_elastic.inference.measures import Measures
from jax_elastic.subnet import Subnet

KIND = "search"
NUMBER = int | float
FIELDS: dict[str, Any] = {
    "subnet": str,
    "asked": NUMBER | None,
    "achieved": NUMBER | None,
    "top1": NUMBER,
    "top1_ci95": list,
    "n": int,
    "macs": NUMBER,
    "flops": NUMBER,
    "params": NUMBER,
    "ms": NUMBER | None,
}
"""What every row has, and of which type."""
CHUNK = 32  # operating points that are measured together, and lost where it is stopped meanwhile


class Table:
    """Rows by operating point, as they lie in a file.

    Args:
      path: the file; read where there is one, written after each chunk.
      facts: what is the same in all rows, e.g. `hash` of the variables.
      timed: what times are of, `batch_size` and `device`; times of others stay in the file, but
        are missing here. None where nothing is timed: all are seen.

    Raises:
      UsageError: the file is no table, or its rows are of other facts: numbers that cannot be
        compared are not put into one table.
    """

    def __init__(self, path: Path, facts: Row, timed: Row | None = None):
        self._path, self._facts, self._of_time = path, dict(facts), dict(timed or {})
        rows = read_table(path) if path.exists() else {}
        for row in rows.values():
            _check_same(path, row, self._facts)
        self._rows: dict[Point, Row] = rows

    @property
    def rows(self) -> list[Row]:
        """All rows, in the order in which the points were measured first."""
        return list(self._seen().values())

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
        seen = self._seen()
        missing = [point for point in points if measures.missing(seen.get(point))]
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            for point, row in measures(chunk, seen).items():
                of_time = {} if row["ms"] is None else self._of_time
                self._rows[point] = {**row, **self._facts, **of_time}
            write_json(self._path, KIND, list(self._rows.values()))
            report(f"{start + len(chunk)} of {len(missing)} operating points")
        seen = self._seen()
        return [seen[point] for point in points]

    def _seen(self) -> dict[Point, Row]:
        """The rows without times that are of something else than this search's would be."""
        return {point: self._own_time(row) for point, row in self._rows.items()}

    def _own_time(self, row: Row) -> Row:
        if row["ms"] is None or all(row.get(key) == v for key, v in self._of_time.items()):
            return row
        kept = {key: value for key, value in row.items() if key not in self._of_time}
        return {**kept, "ms": None}


def read_table(path: Path) -> dict[Point, Row]:
    """The rows of a table by operating point.

    Raises:
      UsageError: the file is no table of a search, or a row of it lacks what every row has.
    """
    rows = read_json(path, KIND)
    for place, row in enumerate(rows, 1):
        _check_row(path, place, row)
    return {(Subnet.parse(row["subnet"]), row["asked"]): row for row in rows}


def _check_row(path: Path, place: int, row: Any) -> None:
    """Refuses what no search wrote."""
    fields = row if isinstance(row, dict) else {}
    wrong = [n for n, kind in FIELDS.items() if n not in fields or not isinstance(fields[n], kind)]
    if wrong:
        raise UsageError(
            f"row {place} of {path} lacks {', '.join(wrong)}, or they are of another type",
            "rows as `search` writes them",
            "delete it and search again",
        )


def _check_same(path: Path, row: Row, facts: Row) -> None:
    for name, value in facts.items():
        if row.get(name) != value:
            raise UsageError(
                f"{path} is a table of {name} {row.get(name)}",
                f"this search is of {name} {value}, and a table has one",
                "delete it to begin anew, or keep another by --json=FILE",
            )
