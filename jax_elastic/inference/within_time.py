"""Which row of a latency table keeps a time: pure functions over the rows of `measure`."""

import math
from collections.abc import Sequence

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import Row, name_point


def within(rows: Sequence[Row], budget_ms: float) -> dict[int, Row | None]:
    """The row of the best validation top-1 that keeps a time, for each batch size.

    A time is kept where the 99th percentile of the calls is within it. Of equal top-1 the lower
    median is taken.

    Args:
      rows: of `jax_elastic.inference.latency.measure`.
      budget_ms: of a call, in milliseconds.

    Returns:
      Batch size -> the row, or None where none keeps it.
    """
    kept: dict[int, Row | None] = {}
    for size in dict.fromkeys(row["batch_size"] for row in rows):
        fit = [row for row in _of_size(rows, size) if row["ms_p99"] <= budget_ms]
        kept[size] = max(fit, key=lambda row: (row["top1"], -row["ms_median"]), default=None)
    return kept


def choose(rows: Sequence[Row], budget_ms: float) -> dict[int, Row | None]:
    """As `within`, for a time that is kept at some batch size.

    Raises:
      UsageError: `budget_ms` is no time, or no row keeps it at any batch size.
    """
    check_budget_ms(budget_ms)
    kept = within(rows, budget_ms)
    if not any(kept.values()):
        fastest = quickest(rows)
        raise UsageError(
            f"no operating point keeps {budget_ms:g} ms",
            f"the fastest is {name_row(fastest)}, batches of {fastest['batch_size']}, whose 99th "
            f"percentile is {fastest['ms_p99']:.3g} ms",
            "give more by --budget_ms, or try other --batch_sizes",
        )
    return kept


def check_budget_ms(budget_ms: float) -> None:
    """Refuses what is no time.

    Raises:
      UsageError: it is not positive, or not finite.
    """
    if not 0 < budget_ms < math.inf:
        raise UsageError(f"budget_ms {budget_ms:g} is no time", "milliseconds, more than 0")


def quickest(rows: Sequence[Row], batch_size: int | None = None) -> Row:
    """The row whose 99th percentile is least, of all or of one batch size."""
    among = rows if batch_size is None else _of_size(rows, batch_size)
    return min(among, key=lambda row: float(row["ms_p99"]))


def name_row(row: Row) -> str:
    """An operating point with what was asked and the engine: ``full at budget 0.6 by masked``."""
    return f"{name_point(row)} by {row['engine']}"


def _of_size(rows: Sequence[Row], size: int) -> list[Row]:
    return [row for row in rows if row["batch_size"] == size]
