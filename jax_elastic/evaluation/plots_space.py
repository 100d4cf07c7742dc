"""Figures of networks whose operating points are combinations of choices, one for each place."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.accuracy import draws_interval
from jax_elastic.evaluation.figures import (
    GREY,
    Floats,
    label_points,
    new_figure,
    new_panels,
    series_style,
)
from jax_elastic.evaluation.pareto import front, on_front
from jax_elastic.evaluation.plots_series import (
    Series,
    accuracy_axis,
    draw_intervals,
    finish,
    look,
    series_of,
)
from jax_elastic.evaluation.rows import Row
from jax_elastic.evaluation.tables import count_unit
from jax_elastic.subnet import Subnet

ASIDE = 0.2  # of the distance between two choices: how far apart places stand, all together
TICKS = 10  # choices that each have a tick
SAMPLE = 60  # operating points: what is advised where there were too few


def is_combination(row: Row) -> bool:
    """Whether a row's operating point takes several numbers, and no budget is asked or implied."""
    free = row.get("asked") is None and row.get("achieved") is None
    return free and len(Subnet.parse(row["subnet"]).value) > 1


def has_front(rows: Sequence[Row]) -> bool:
    """Whether some run of `join_runs` has combinations beside the two ends of its space."""
    return any(_is_cloud(series) for series in series_of(rows))


def draw_fronts(rows: Sequence[Row], title: str) -> Figure:
    """Top-1 (percent) of every operating point against MACs, with each run's Pareto front joined.

    The front is marked and has the 95 % intervals; all other points are small. It is found on the
    very images that are drawn, so it flatters whoever has more points. Runs without combinations
    are drawn with all their points.

    Args:
      rows: of `join_runs`, see `has_front`.
      title: stands above the axes.

    Raises:
      UsageError: no run has more points than two.

    References:
      Resizable networks, figures 2 and 4.
    """
    every = series_of(rows)
    if not any(_is_cloud(series) for series in every):
        raise UsageError("this takes more than two combinations of choices", next_step=_more())
    figure, axes = new_figure(4.3, title)
    size, unit = count_unit(max(row["macs_mean"] for row in rows))
    drawn, labels = [], []
    for one in every:
        if _is_cloud(one):
            best = draw_cloud(axes, one, "macs_mean", 1 / size)
            if len(every) == 1:
                labels = _labelled(best, size)
        else:
            best = one.by("macs_mean")
            macs = best.values("macs_mean", 1 / size)
            draw_intervals(axes, macs, best)
            axes.plot(macs, best.values("top1", 100), **look(best))
        drawn.append(best)
    axes.set_xlabel(f"MACs per image{unit and f', {unit}'}")
    accuracy_axis(axes, every, ["line: Pareto front", "bar: 95 % interval"], "\n")
    finish(figure, [axes], drawn)
    label_points(axes, labels)
    return figure


def draw_cloud(axes: Axes, series: Series, cost: str, scale: float = 1.0) -> Series:
    """Draws all points of a series small, and its Pareto front joined, with 95 % intervals.

    Args:
      axes: its y axis is accuracy in percent.
      series: the points.
      cost: the field along the x axis.
      scale: what it is multiplied by.

    Returns:
      The front.
    """
    small: dict[str, Any] = {**look(series), "linestyle": "", "markersize": 2.5, "alpha": 0.4}
    axes.plot(series.values(cost, scale), series.values("top1", 100), **small)
    best = replace(series, rows=tuple(front(series.rows, cost)))
    x = best.values(cost, scale)
    draw_intervals(axes, x, best)
    joined = {**look(best), "linestyle": series.style.line}
    axes.plot(x, best.values("top1", 100), **joined)
    return best


def draw_preferences(rows: Sequence[Row], title: str, size: int | None = None) -> Figure:
    """What each choice at each place is worth: two panels with a line for each place.

    Above, the mean top-1 (percent) over all points that have the choice, with its 95 % t-interval
    over these points; below, in which share of the Pareto-optimal points it stands, beside its
    share of all points, which is what it would be if the front did not care. The places stand
    side by side at each choice, so that those that are worth the same can be told apart.

    Args:
      rows: one network's, see `is_combination`.
      title: stands above the panels.
      size: of the space, if known: more points than that are not advised.

    Raises:
      UsageError: a choice stands in fewer than two points, or nowhere is there a choice.

    References:
      Resizable networks, figure 3.
    """
    points = [(Subnet.parse(row["subnet"]), row) for row in rows if is_combination(row)]
    _check_preferences([point for point, _ in points], _more(size))
    best = np.array(on_front([row for _, row in points]))
    values = np.array([point.value for point, _ in points], float)
    top1 = np.array([row["top1"] for _, row in points], float)
    figure, panels = new_panels(6.0, 2)
    panels[0].set_title(title, fontsize=11, loc="left")
    axis = points[0][0].axis
    drawn = []
    choices = np.unique(values)
    aside = ASIDE * np.diff(choices).min() / values.shape[1]
    for place in range(values.shape[1]):
        found = [
            {"subnet": str(Subnet(axis, (value,))), **_worth(top1, values[:, place] == value, best)}
            for value in np.unique(values[:, place])
        ]
        free = ["x" if other == place else "_" for other in range(values.shape[1])]
        one = Series(f"{axis}:{','.join(free)}", series_style(place), tuple(found))
        drawn.append(one)
        _draw_choices(panels, one, aside * (place - (values.shape[1] - 1) / 2))
    panels[0].set_ylabel("mean top-1, %\n(bar: 95 % interval over points)")
    panels[1].set_ylabel(
        f"share of the {best.sum()} Pareto points, %\n(grey: of all {len(points)})"
    )
    panels[1].set_xlabel(f"x, the number at one place of {axis}, with any at the others")
    if len(choices) <= TICKS:
        panels[1].set_xticks(choices)
    finish(figure, panels, drawn)
    figure.align_ylabels(panels)
    return figure


def _is_cloud(series: Series) -> bool:
    """Whether its points are many combinations of one network, in no order."""
    apart = not (series.joined or series.alike)
    return len(series.rows) > 2 and apart and all(map(is_combination, series.rows))


def _labelled(best: Series, size: float) -> list[tuple[float, float, str]]:
    """The ends of a front with the numbers of their operating points."""
    ends = best.rows[:1] + best.rows[1:][-1:]
    return [
        (row["macs_mean"] / size, 100 * row["top1"], row["subnet"].partition(":")[2])
        for row in ends
    ]


def _worth(top1: Floats, there: Any, best: Any) -> dict[str, Any]:
    """What the points of a choice come to; `there` and `best` are bool (points,)."""
    return {
        "top1": float(top1[there].mean()),
        "top1_ci95": draws_interval(top1[there]),
        "share": float(there[best].mean()),
        "expected": float(there.mean()),
    }


def _draw_choices(panels: Sequence[Axes], series: Series, aside: float) -> None:
    value = np.array([Subnet.parse(row["subnet"]).value[0] for row in series.rows], float) + aside
    style = look(series)
    draw_intervals(panels[0], value, series)
    panels[0].plot(value, series.values("top1", 100), **style)
    panels[1].plot(value, series.values("expected", 100), color=GREY, linewidth=0.8, linestyle=":")
    panels[1].plot(value, series.values("share", 100), **style)


def _more(size: int | None = None) -> str:
    """What to do where too few points were evaluated."""
    sample = SAMPLE if size is None else min(SAMPLE, size)
    return f"evaluate more of its operating points, for example --sample={sample}"


def _check_preferences(points: Sequence[Subnet], more: str) -> None:
    kinds = {(point.axis, len(point.value)) for point in points}
    if len(kinds) != 1:
        raise UsageError("this takes operating points that are combinations of choices", "one axis")
    counts = [
        {value: places.count(value) for value in places}
        for places in zip(*(point.value for point in points), strict=True)
    ]
    for place, of_place in enumerate(counts, 1):
        for value, count in of_place.items():
            if count < 2:
                raise UsageError(
                    f"only one point has {value:g} as number {place} of {points[0].axis}",
                    "two or more of each choice",
                    more,
                )
    if all(len(of_place) == 1 for of_place in counts):
        raise UsageError("all operating points are the same", next_step=more)
