"""Figures of networks that answer at several costs: errors, label levels, and their branches."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import SMALL, new_figure, series_style
from jax_elastic.evaluation.plots_series import (
    Series,
    accuracy,
    axis_of,
    draw_intervals,
    draw_level,
    error,
    finish,
    grouped,
    look,
    series_of,
)
from jax_elastic.evaluation.rows import Row
from jax_elastic.evaluation.tables import count_unit
from jax_elastic.subnet import Subnet

LOG_FROM = 4.0  # times the smallest error: from there on the axis is logarithmic


def draw_error_against_macs(
    rows: Sequence[Row], title: str, published: Sequence[Row] = ()
) -> Figure:
    """Top-1 error (percent) against mean MACs per image, with 95 % intervals: a curve per run.

    Where one error is `LOG_FROM` times another, the axis is logarithmic, so that a run which fails
    leaves room for the others.

    Args:
      rows: of `join_runs`. A run's operating points are joined.
      title: stands above the axes.
      published: of `read_published`. A method of which no MACs are known is a level line if it has
        one point, and left out if it has several.

    References:
      Anytime Neural Prediction via Slicing Networks Vertically (2018), section 3.
    """
    figure, axes = new_figure(4.0, title)
    every = series_of(rows, published)
    costed = [s for s in (s.by("macs_mean") for s in every) if s.rows]
    level = [s for s in every if is_level(s)]
    size, unit = count_unit(max(row["macs_mean"] for s in costed for row in s.rows))
    for one in costed:
        macs = one.values("macs_mean", 1 / size)
        draw_intervals(axes, macs, one, error)
        axes.plot(macs, error(one.values("top1")), **look(one))
    macs = np.concatenate([s.values("macs_mean", 1 / size) for s in costed])
    for one in level:
        draw_level(axes, (macs.min(), macs.max()), float(error(one.values("top1"))[0]), one)
    errors = np.concatenate([error(s.values("top1")) for s in (*costed, *level)])
    note = "bar: 95 % interval"
    if 0 < LOG_FROM * errors.min() <= errors.max():
        _make_logarithmic(axes)
        note = f"{note}, log scale"
    axes.set_xlabel(f"mean MACs per image{unit and f', {unit}'}")
    axes.set_ylabel(f"top-1 error, % ({note})")
    finish(figure, [axes], [*costed, *level], rows)
    return figure


def has_curves(rows: Sequence[Row]) -> bool:
    """Whether some run of `join_runs` is a curve without budgets, see `Series.joined`."""
    return any(one.joined and not one.budgets for one in series_of(rows))


def is_level(series: Series) -> bool:
    """Whether `draw_error_against_macs` has a level line for it: one point of unknown cost."""
    return len(series.rows) == 1 and not series.having("macs_mean").rows


def draw_levels(rows: Sequence[Row], title: str) -> Figure:
    """Top-1 (percent) of each label level against the operating point, with 95 % intervals.

    Args:
      rows: of an `Evaluation` of one network; see `has_levels`.
      title: stands above the axes.

    Raises:
      UsageError: there are not several levels at several points along one axis.

    References:
      Anytime Neural Prediction via Slicing Networks Vertically (2018), figure 5.
    """
    if not has_levels(rows):
        raise UsageError("this takes several label levels at several points along one axis")
    figure, axes = new_figure(4.0, title)
    placed = [{**row, "place": Subnet.parse(row["subnet"]).value[0]} for row in rows]
    levels = grouped(sorted(placed, key=lambda row: int(row["level"])), "{level_name}")
    series = [
        Series(name, series_style(i), tuple(own)).by("place")
        for i, (name, own) in enumerate(levels.items())
    ]
    for one in series:
        draw_intervals(axes, one.values("place"), one)
        axes.plot(one.values("place"), accuracy(one.values("top1")), **look(one))
    if all(row["place"] == int(row["place"]) for row in placed):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.set_xlabel(f"operating point, {axis_of(rows)}")
    axes.set_ylabel("top-1, % (bar: 95 % interval)")
    finish(figure, [axes], series, rows)
    return figure


def has_levels(rows: Sequence[Row]) -> bool:
    """Whether rows are several label levels at several operating points along one axis."""
    several = all(len({row.get(key) for row in rows}) > 1 for key in ("level", "subnet"))
    asked = any(row.get("asked") is not None for row in rows)
    return several and not asked and axis_of(rows) is not None


def draw_branch_norms(rows: Sequence[Row], title: str) -> Figure:
    """What each branch of a block carries, for one network or several beside each other.

    Args:
      rows: of `branch_rows`, each with `run`, the name of its network.
      title: stands above the axes.

    Raises:
      UsageError: there are no rows.

    References:
      Anytime Neural Prediction via Slicing Networks Vertically (2018), figure 3b.
    """
    if not rows:
        raise UsageError("there is no network with branches to plot")
    figure, axes = new_figure(3.4, title)
    for i, (name, own) in enumerate(grouped(rows, "{run}, block {block}").items()):
        style = series_style(i)
        axes.plot(
            [row["branch"] for row in own],
            [row["l1"] for row in own],
            color=style.colour,
            marker=style.marker,
            linestyle=style.line,
            linewidth=1,
            markersize=5,
            label=name,
        )
    axes.set_ylim(0, 1.08 * max(row["l1"] for row in rows))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.set_xlabel("branch")
    axes.set_ylabel("L1 norm of its part of conv3")
    axes.grid(color="0.9", linewidth=0.6)
    figure.legend(fontsize=SMALL, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _make_logarithmic(axes: Axes) -> None:
    """Y becomes logarithmic, with ticks at 1, 2 and 5 that read as they are."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
