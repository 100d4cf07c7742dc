"""Rows of several runs, and of papers, as lines that are told apart the same way in each figure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jax_elastic.evaluation.figures import GREY, Floats, Style, series_style
from jax_elastic.evaluation.rows import Row


@dataclass(frozen=True)
class Series:
    """Rows that share a line.

    Attributes:
      name: stands in the legend.
      style: its colour and marker.
      rows: of one run, or of one method of a paper.
      published: whether a paper prints them; they are drawn hollow.
    """

    name: str
    style: Style
    rows: tuple[Row, ...]
    published: bool = False

    @property
    def budgets(self) -> bool:
        """Whether they ask for budgets."""
        return any(row.get("asked") is not None for row in self.rows)

    def having(self, key: str) -> "Series":
        """The rows that have a field."""
        return replace(self, rows=tuple(r for r in self.rows if r.get(key) is not None))

    def by(self, key: str) -> "Series":
        """The rows that have a field, in its order."""
        rows = self.having(key).rows
        return replace(self, rows=tuple(sorted(rows, key=lambda row: float(row[key]))))

    def values(self, key: str, scale: float = 1.0) -> Floats:
        """A field that all rows have, times a scale: (rows,)."""
        return scale * np.array([row[key] for row in self.rows], float)


def series_of(rows: Sequence[Row], published: Sequence[Row] = ()) -> list[Series]:
    """Runs in their order, then published methods; a run with several subnets has a line of each.

    Without budgets, the subnets are the points of one series.
    """
    found: list[Series] = []
    for run, own in _grouped(rows, "{run}").items():
        parts = _grouped(own, "{run}, {subnet}") if own[0]["asked"] is not None else {run: own}
        for name, part in parts.items():
            named = name if len(parts) > 1 else run
            found.append(Series(named, series_style(len(found)), tuple(part)))
    for i, (name, part) in enumerate(_grouped(published, "{method} ({source})").items()):
        grey = Style(GREY, series_style(i).marker, ":")
        found.append(Series(name, grey, tuple(part), published=True))
    return found


def _grouped(rows: Sequence[Row], name: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(name.format_map(row), []).append(row)
    return groups


def look(series: Series) -> dict[str, Any]:
    """Its line and markers, as arguments of `Axes.plot`; a single point has no line."""
    style = series.style
    return {
        "color": style.colour,
        "linestyle": style.line if series.budgets and len(series.rows) > 1 else "",
        "linewidth": 1.0,
        "marker": style.marker,
        "markersize": 5.5,
        "markerfacecolor": "white" if series.published else style.colour,
        "markeredgewidth": 1.0,
        "zorder": 2 if series.published else 3,
    }
