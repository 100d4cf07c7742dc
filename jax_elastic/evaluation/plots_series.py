"""Rows of several runs, and of papers, as lines that are told apart the same way in each figure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jax_elastic.evaluation.figures import (
    GREY,
    SMALL,
    Floats,
    Style,
    series_style,
    widen_top,
)
from jax_elastic.evaluation.rows import Row
from jax_elastic.subnet import Subnet

Measure = Callable[[Floats], Floats]
"""Shares of images that are told right -> what is drawn of them."""

LEGEND_LINE = 0.19  # inches


def accuracy(shares: Floats) -> Floats:
    """Shares told right in [0, 1] -> percent told right."""
    return 100 * shares


def error(shares: Floats) -> Floats:
    """Shares told right in [0, 1] -> percent told wrong."""
    return 100 * (1 - shares)


@dataclass(frozen=True)
class Series:
    """Rows that share a line.

    Attributes:
      name: stands in the legend.
      style: its colour and marker.
      rows: of one run, of several that share a name, or of one method of a paper.
      published: whether a paper prints them; they are drawn hollow.
      alike: whether they are what images of the run choose among, each run for all images alike;
        they are drawn as rings, in which the same point of another run can lie.
    """

    name: str
    style: Style
    rows: tuple[Row, ...]
    published: bool = False
    alike: bool = False

    @property
    def budgets(self) -> bool:
        """Whether they ask for budgets."""
        return any(row.get("asked") is not None for row in self.rows)

    @property
    def joined(self) -> bool:
        """Whether a line may lead from one to the next: budgets, or points along one axis.

        So also networks of one point each, whose order is that of their costs. Not so points that
        a paper prints without budgets: what lies between them is not known.
        """
        along = self.budgets or (
            not (self.published or self.alike) and (self._apart or axis_of(self.rows) is not None)
        )
        return len(self.rows) > 1 and along

    @property
    def _apart(self) -> bool:
        """Whether each row is of a workdir of its own."""
        return len({row.get("workdir") for row in self.rows}) == len(self.rows)

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


def axis_of(rows: Sequence[Row]) -> str | None:
    """The axis along which the operating points of rows lie, with one number each at most.

    None where they are of several axes, or where a point takes several numbers: then no line has
    them in an order.
    """
    points = [Subnet.parse(row["subnet"]) for row in rows]
    axes = {point.axis for point in points}
    return axes.pop() if len(axes) == 1 and all(len(p.value) <= 1 for p in points) else None


def series_of(rows: Sequence[Row], published: Sequence[Row] = ()) -> list[Series]:
    """Runs in their order, then published methods; a run with several subnets has a line of each.

    Without budgets, the subnets are the points of one series; but where images choose, what they
    choose among is one of its own.
    """
    found: list[Series] = []
    for run, own in grouped(rows, "{run}").items():
        parts = grouped(own, "{run}, {subnet}") if own[0]["asked"] is not None else {run: own}
        for name, part in parts.items():
            named = name if len(parts) > 1 else run
            found += _by_choice(Series(named, series_style(len(found)), tuple(part)))
    for i, (name, part) in enumerate(grouped(published, "{method} ({source})").items()):
        grey = Style(GREY, series_style(i).marker, ":")
        found.append(Series(name, grey, tuple(part), published=True))
    return found


def _by_choice(series: Series) -> list[Series]:
    """What images choose, and apart from it what is run alike for all."""
    chosen = tuple(row for row in series.rows if row.get("choices") is not None)
    alike = tuple(row for row in series.rows if row.get("choices") is None)
    if not chosen or not alike:
        return [series]
    name = f"{series.name}, one point for all images"
    return [replace(series, rows=chosen), replace(series, name=name, rows=alike, alike=True)]


def grouped(rows: Sequence[Row], name: str) -> dict[str, list[Row]]:
    """Rows by a name that is made of their fields, both in their order."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(name.format_map(row), []).append(row)
    return groups


def look(series: Series) -> dict[str, Any]:
    """Its line and markers, as arguments of `Axes.plot`; a single point has no line."""
    style = series.style
    return {
        "color": style.colour,
        "linestyle": style.line if series.joined else "",
        "linewidth": 1.0,
        "marker": style.marker,
        "markersize": 9.5 if series.alike else 5.5,
        "markerfacecolor": "white" if series.published or series.alike else style.colour,
        "markeredgewidth": 1.0,
        "zorder": 2 if series.published or series.alike else 3,
    }


def draw_level(axes: Axes, ends: tuple[float, float], value: float, series: Series) -> None:
    """What the x axis does not move: a dashed line between two ends, marked at the right one."""
    dashed = {**look(series), "linestyle": (0, (2, 2)), "markevery": [1]}
    axes.plot(ends, [value] * 2, **dashed)


def draw_intervals(axes: Axes, x: Floats, series: Series, measure: Measure = accuracy) -> None:
    """The 95 % interval over images as a thin bar; that over random draws as wide caps."""
    colour, middle = series.style.colour, measure(series.values("top1"))
    thin: dict[str, Any] = {"elinewidth": 0.8, "alpha": 0.75}
    caps: dict[str, Any] = {"elinewidth": 1.6, "capsize": 5.5, "capthick": 1.6}
    for key, form in (("top1_ci95", thin), ("top1_draws_ci95", caps)):
        there = [i for i, row in enumerate(series.rows) if row.get(key) is not None]
        if there:
            ends = measure(np.array([series.rows[i][key] for i in there], float).T)
            bars = np.maximum([middle[there] - ends.min(0), ends.max(0) - middle[there]], 0)
            axes.errorbar(x[there], middle[there], bars, fmt="none", ecolor=colour, **form)


def draws_of(rows: Iterable[Row]) -> set[int]:
    """How often images were drawn, where gates are random."""
    return {row["draws"] for row in rows if row.get("draws")}


def accuracy_axis(
    axes: Axes, series: Sequence[Series], notes: Sequence[str] = (), gap: str = " "
) -> None:
    """Names an axis of accuracies in percent and, where some fail beside others, stretches it.

    Args:
      axes: its y axis.
      series: what is drawn, with their 95 % intervals.
      notes: stand in brackets behind the name.
      gap: what parts them, e.g. a line's end.
    """
    top1 = np.concatenate([one.values("top1", 100) for one in series])
    ends = [100 * end for s in series for row in s.rows for end in row.get("top1_ci95") or ()]
    low, high = float(min(*top1, *ends)), float(max(*top1, *ends))
    told = f",{gap}".join([*notes, *(["stretched scale"] if widen_top(axes, low, high) else [])])
    axes.set_ylabel(f"top-1, %{gap}({told})" if told else "top-1, %")


def finish(
    figure: Figure, panels: Sequence[Axes], series: Sequence[Series], rows: Sequence[Row] = ()
) -> None:
    """Grid, margins and the legend below, for which the figure grows.

    Args:
      figure: holds the panels.
      panels: its axes.
      series: what the legend names.
      rows: where some have random draws, the legend says how many.
    """
    for axes in panels:
        axes.set_axisbelow(True)
        axes.grid(color="0.9", linewidth=0.6)
        axes.margins(0.05, 0.08)
    handles = [Line2D([], [], label=one.name, **look(one)) for one in series]
    draws = sorted(draws_of(rows))
    if draws:
        told = f"95 % of {' or '.join(map(str, draws))} draws"
        handles.append(
            Line2D([], [], linestyle="", label=told, color="0.3", marker="_", markersize=10)
        )
    longest = max(len(str(handle.get_label())) for handle in handles)
    columns = 4 if longest <= 12 else 3 if longest <= 22 else 2 if longest <= 40 else 1
    lines = -(-len(handles) // columns)
    columns = -(-len(handles) // lines)
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * lines)
    figure.legend(
        handles=handles, fontsize=SMALL, loc="outside lower center", ncols=columns, frameon=False
    )
