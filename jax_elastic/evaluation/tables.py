"""Rows as a monospace table for the terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jax_elastic.evaluation.rows import Row


def count_unit(n: float) -> tuple[float, str]:
    """The unit in which `n` reads best: (1e6, "M") for 68,862,592; (1, "") below one thousand."""
    for size, name in ((1e3, "K"), (1e6, "M"), (1e9, "G")):
        # 999,950 would print as 1000.0 K, so the next unit begins there.
        if abs(n) < size * 999.95:
            return (1.0, "") if abs(n) < 999.5 else (size, name)
    return 1e12, "T"


def format_count(n: float) -> str:
    """A count such as MACs with three or four digits and a unit: 2,012,345 -> ``2.01 M``."""
    size, name = count_unit(n)
    # 9.995 would print as 10.00.
    decimals = 2 if abs(n) < 9.995 * size else 1
    return f"{n / size:.{decimals}f} {name}" if name else f"{n:.0f}"


def format_share(share: float) -> str:
    """A share in [0, 1] in percent: 0.972 -> ``97.2 %``."""
    return f"{100 * share:.1f} %"


def format_interval(interval: Sequence[float]) -> str:
    """An interval (low, high) of shares, in percent: (0.961, 0.98) -> ``[96.1, 98.0]``."""
    low, high = interval
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def format_percentages(shares: Sequence[float]) -> str:
    """Several shares in [0, 1] in whole percent: (0.62, 0.38, 0) -> ``62 38 0``."""
    return " ".join(f"{100 * share:.0f}" for share in shares)


def format_number(number: float) -> str:
    """A number of moderate size with one decimal: 32.44 -> ``32.4``."""
    return f"{number:.1f}"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
      key: the row's field.
      heading: what stands above it.
      formatter: field -> cell; never sees None, which prints as ``-``.
      left: whether the column is text, aligned left.
      idle: a value that says nothing where all rows have it, such as a spread of 0.
    """

    key: str
    heading: str
    formatter: Callable[[Any], str] = str
    left: bool = False
    idle: Any = None

    def tells(self, rows: Sequence[Row]) -> bool:
        """Whether some row has a value that says something."""
        values = [row[self.key] for row in rows if row.get(self.key) is not None]
        return any(self.idle is None or value != self.idle for value in values)


BUDGET_COLUMNS = (
    Column("subnet", "subnet", left=True),
    Column("batch_size", "batch"),
    Column("asked", "asked", format_share),
    Column("achieved", "achieved", format_share),
    Column("tracking_error", "error", format_share),
    Column("reached", "reached", lambda reached: "yes" if reached else "no"),
    Column("level_name", "level", left=True),
    Column("top1", "top-1", format_share),
    Column("top1_ci95", "95 % interval", format_interval),
    Column("draws", "draws"),
    Column("top1_draws_ci95", "95 % of draws", format_interval),
    Column("blocks_mean", "blocks", format_number),
    Column("blocks_std", "std", format_number),
    Column("blocks_p99", "p99", format_number),
    Column("macs_mean", "MACs", format_count),
    Column("macs_std", "MACs std", format_count, idle=0.0),
    Column("macs_share", "nFLOPs", format_share),
    Column("macs_chosen_mean", "of chosen", format_count),
    Column("choices", "choices", format_percentages),
    Column("gate_mean", "gate mean", "{:.3f}".format),
    Column("gate_std", "std", "{:.3f}".format),
)
"""What `eval` shows: an interval is over images, that of draws over random draws of the gates."""

SEEN_FROM = 0.001
"""A share of MACs that shows in the column of nFLOPs, which has steps of a tenth of a percent."""


def describe_choices(rows: Sequence[Row], candidates: Sequence[object]) -> list[str]:
    """What stands below a table whose images choose; nothing where they do not.

    Args:
      rows: of the table.
      candidates: what they choose among, see `Family.candidates`.
    """
    if not any(row.get("choices") for row in rows):
        return []
    named = "  ".join(f"{number}: {point}" for number, point in enumerate(candidates, 1))
    return [
        f"choices: percent of the images that chose each of  {named}",
        "of chosen: MACs of what they chose alone; MACs have in them what it took to choose",
    ]


def describe_shares(rows: Sequence[Row]) -> list[str]:
    """What stands below a table whose nFLOPs have a part in them that decides; nothing else.

    Args:
      rows: of the table.
    """
    both = [
        (row["macs_share"], row["macs_share_without_gates"])
        for row in rows
        if row.get("macs_share") is not None
    ]
    if all(share - without < SEEN_FROM for share, without in both):
        return []
    whole, rest = (_format_range(shares) for shares in zip(*both, strict=True))
    return [f"nFLOPs: {whole} with what decides, {rest} without"]


def _format_range(shares: Sequence[float]) -> str:
    """``20.1 % to 92.8 %``, or the one share that all are."""
    ends = dict.fromkeys(map(format_share, (min(shares), max(shares))))
    return " to ".join(ends)


def format_table(rows: Sequence[Row], columns: Sequence[Column] | None = None) -> str:
    """Rows as aligned text: a heading line, then one line a row, no newline at the end.

    Args:
      rows: one dict per operating point; None or a missing field prints as ``-``.
      columns: `BUDGET_COLUMNS` where None, without those that no row has a value for.
    """
    if columns is None:
        columns = with_values(BUDGET_COLUMNS, rows)
    texts = [[column.heading, *(_cell(row, column) for row in rows)] for column in columns]
    padded = [_pad(cells, column.left) for cells, column in zip(texts, columns, strict=True)]
    return "\n".join("  ".join(line).rstrip() for line in zip(*padded, strict=True))


def with_values(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """The columns that tell something of some row; all where there are no rows."""
    return [column for column in columns if not rows or column.tells(rows)]


def _cell(row: Row, column: Column) -> str:
    value = row.get(column.key)
    return "-" if value is None else column.formatter(value)


def _pad(cells: Sequence[str], left: bool) -> list[str]:
    width = max(len(cell) for cell in cells)
    return [cell.ljust(width) if left else cell.rjust(width) for cell in cells]
