"""Metrics of training: the JSON-lines file of a workdir, and the line that shows progress."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from jax_elastic.files import replace_file
from jax_elastic.training.events import EventFiles

Row = dict[str, Any]


class MetricsFile:
    """`metrics.jsonl`: one JSON object per line, each with its `step` and `kind`.

    A context manager where it has `events`, so that they are closed whatever happens.

    Args:
      path: of the file.
      events: gets the same rows.
      writes: whether anything is written; not where another process does it.
    """

    def __init__(self, path: Path, events: EventFiles | None = None, writes: bool = True):
        self._path, self._events, self._writes = path, events, writes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._events is not None:
            self._events.close()

    def append(self, row: Row) -> None:
        """Adds a row and hands it to the operating system; a NaN becomes null."""
        if not self._writes:
            return
        plain = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(plain, allow_nan=False) + "\n")
        if self._events is not None:
            self._events.append(plain)

    def rows(self) -> list[Row]:
        """All whole rows; a last line that was cut off by a kill is left out."""
        if not self._path.exists():
            return []
        lines = self._path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def cut_back(self, step: int) -> None:
        """Drops rows later than `step`: the restored run writes them again."""
        if not self._writes:
            return
        kept = [row for row in self.rows() if row["step"] <= step]
        replace_file(self._path, "".join(json.dumps(row) + "\n" for row in kept).encode())
        if self._events is not None:
            self._events.start(step)


def means(sums: Mapping[str, tuple[Any, Any]]) -> dict[str, float]:
    """(sum, count) of each metric -> its mean; NaN where nothing was counted."""
    return {
        name: float(total) / float(count) if float(count) else math.nan
        for name, (total, count) in sums.items()
    }


def progress_line(row: Row, total_steps: int, epochs: float) -> str:
    """One line for the terminal: place, time to go, speed, and the means of `row`."""
    shown = {"loss": "{:.4f}", "top1": "{:.1%}", "usage": "{:.1%}", "budget": "{:.2f}"}
    parts = [
        f"{row['phase']:>8}",
        f"step {row['step']}/{total_steps}",
        f"epoch {row['epoch']:.1f}/{epochs:.1f}",
        f"ETA {_clock(row['seconds_to_go'])}",
        f"{row['images_per_second']:,.0f} images/s",
    ]
    parts += [f"{name} {form.format(row[name])}" for name, form in shown.items() if name in row]
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
