"""Figures of several runs in one picture; rows are those of `compare.join_runs`.

A run keeps its colour and marker in all of them. Published rows are grey and hollow, with their
source in the legend, and stand only where the paper prints what an axis asks for.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import label_points, new_figure, new_panels
from jax_elastic.evaluation.plots_series import (
    Series,
    accuracy_axis,
    draw_intervals,
    draw_level,
    draws_of,
    finish,
    look,
    series_of,
)
from jax_elastic.evaluation.rows import Row
from jax_elastic.evaluation.tables import count_unit

DODGE = 0.03  # of a budget: how far apart the points of one S stand, all together


def draw_runs_against_macs(
    rows: Sequence[Row], title: str, published: Sequence[Row] = ()
) -> Figure:
    """Top-1 (percent) of every run against mean MACs per image, with 95 % intervals.

    Args:
      rows: of `join_runs`. Where a row has random draws, what they alone leave open is drawn too.
      title: stands above the axes.
      published: of `read_published`; those without FLOPs are left out.
    """
    figure, axes = new_figure(4.0, title)
    series = [s.by("macs_mean") for s in series_of(rows, published)]
    series = [s for s in series if s.rows]
    size, unit = count_unit(max(row["macs_mean"] for s in series for row in s.rows))
    for one in series:
        macs = one.values("macs_mean", 1 / size)
        draw_intervals(axes, macs, one)
        axes.plot(macs, one.values("top1", 100), **look(one))
    axes.set_xlabel(f"mean MACs per image{unit and f', {unit}'}")
    accuracy_axis(axes, series, ["bar: 95 % interval"], " ")
    finish(figure, [axes], series, rows)
    return figure


def draw_runs_against_budget(
    rows: Sequence[Row], title: str, published: Sequence[Row] = ()
) -> Figure:
    """Top-1, open blocks and FLOPs of every run against the asked budget S: three panels.

    A run with a single operating point and no budget is a level line. One with several is left
    out.

    Args:
      rows: of `join_runs`.
      title: stands above the panels.
      published: of `read_published`; each stands in the panels whose number the paper prints.

    Raises:
      UsageError: no run was asked for a budget.

    References:
      URNet, figure 5, with one run per beta.
    """
    series = [s for s in series_of(rows, published) if s.budgets or len(s.rows) == 1]
    if not any(s.budgets and not s.published for s in series):
        raise UsageError("no run asks for a budget", next_step="evaluate with --budgets=0.2,0.6")
    figure, panels = new_panels(7.4, 3)
    panels[0].set_title(title, fontsize=11, loc="left")
    asked = [row["asked"] for s in series if s.budgets for row in s.rows]
    ends = (min(asked), max(asked))

    _accuracy_panel(panels[0], series, ends)
    _blocks_panel(panels[1], [s for s in series if s.budgets], ends)
    _flops_panel(panels[2], series, ends)
    panels[2].set_xlabel("asked budget S, share of the blocks")
    finish(figure, panels, series, rows)
    figure.align_ylabels(panels)
    return figure


def draw_ranged_against_fixed(rows: Sequence[Row], title: str) -> Figure:
    """Top-1 (percent) against MACs of runs for a range of budgets and for one, with the cost's std.

    Ranged is a run that was asked for several budgets, fixed one that was asked for one; those of
    random gates are left out. Each point of a fixed run, and of a ranged one at the same budget, is
    labelled with S.

    Args:
      rows: of `join_runs`.
      title: stands above the axes.

    Raises:
      UsageError: there is no ranged or no fixed run.

    References:
      URNet, figure 8.
    """
    series = [s.by("macs_mean") for s in series_of(rows) if s.budgets and not draws_of(s.rows)]
    ranged, fixed = ([s for s in series if (len(s.rows) > 1) == many] for many in (True, False))
    if not ranged or not fixed:
        raise UsageError("this takes a run with several budgets and a run with one")
    figure, axes = new_figure(4.0, title)
    size, unit = count_unit(max(row["macs_mean"] for s in series for row in s.rows))
    targets = {s.rows[0]["asked"] for s in fixed}
    points = []
    for one in (*ranged, *fixed):
        macs, top1 = one.values("macs_mean", 1 / size), one.values("top1", 100)
        spread = np.array([row.get("macs_std") or 0 for row in one.rows]) / size
        bar = one.style.colour
        axes.errorbar(macs, top1, xerr=spread, fmt="none", ecolor=bar, elinewidth=1, capsize=3)
        axes.plot(macs, top1, **look(one))
        labels = [f"{row['asked']:g}" if row["asked"] in targets else "" for row in one.rows]
        points += [point for point in zip(macs, top1, labels, strict=True) if point[2]]
    axes.set_xlabel(f"mean MACs per image{unit and f', {unit}'} (bar: std over images)")
    accuracy_axis(axes, series, [], " ")
    named = [replace(s, name=f"{s.name} (ranged)") for s in ranged]
    named += [replace(s, name=f"{s.name} (fixed)") for s in fixed]
    finish(figure, [axes], named, ())
    label_points(axes, points)
    return figure


def has_ranged_and_fixed(rows: Sequence[Row]) -> bool:
    """Whether `draw_ranged_against_fixed` has runs of both kinds."""
    counts = [len(s.rows) for s in series_of(rows) if s.budgets and not draws_of(s.rows)]
    return min(counts, default=0) == 1 and max(counts) > 1


def _accuracy_panel(axes: Axes, series: Sequence[Series], ends: tuple[float, float]) -> None:
    # Runs stand side by side, so that intervals at one S can be told apart; papers print none.
    dodged = [s.name for s in series if s.budgets and not s.published]
    for one in series:
        place = dodged.index(one.name) + 0.5 if one.name in dodged else len(dodged) / 2
        _against_budget(axes, one, "top1", 100, ends, DODGE * (place / len(dodged) - 0.5))
    accuracy_axis(axes, series, ["bar: 95 % interval"], "\n")


def _blocks_panel(axes: Axes, series: Sequence[Series], ends: tuple[float, float]) -> None:
    # Networks of different depth are compared by the share of their blocks.
    totals = {row.get("blocks_total") for s in series for row in s.rows} - {None}
    of_all = totals.pop() if len(totals) == 1 else None
    for one in series:
        _against_budget(axes, _with_share(one), "blocks_share", of_all or 100, ends)
    axes.plot(ends, (of_all or 100) * np.array(ends), color="0.87", linewidth=5, zorder=1)
    told = f"open blocks, of {of_all}" if of_all else "open blocks, % of all"
    axes.set_ylabel(f"{told}\n(band: as asked)")


def _flops_panel(axes: Axes, series: Sequence[Series], ends: tuple[float, float]) -> None:
    flops = [2 * row["macs_mean"] for s in series for row in s.having("macs_mean").rows]
    size, unit = count_unit(max(flops))
    for one in series:
        _against_budget(axes, one, "macs_mean", 2 / size, ends)
    axes.set_ylabel(f"FLOPs per image{unit and f', {unit}'}\n(2 per MAC)")


def _against_budget(
    axes: Axes,
    series: Series,
    key: str,
    scale: float,
    ends: tuple[float, float],
    shift: float | None = None,
) -> None:
    """A field against S; with `shift`, which moves the points aside, also the intervals."""
    if not series.budgets:
        # No budget moves it: a level line, marked where the others end.
        level = [scale * row[key] for row in series.rows if row.get(key) is not None]
        if level:
            draw_level(axes, ends, level[0], series)
        return
    there = series.having(key).by("asked")
    if there.rows:
        budgets = there.values("asked") + (shift or 0)
        if shift is not None:
            draw_intervals(axes, budgets, there)
        axes.plot(budgets, there.values(key, scale), **look(there))


def _with_share(series: Series) -> Series:
    """With the share of the blocks, where their number is known, as `blocks_share`."""
    rows = [
        {**row, "blocks_share": row["blocks_mean"] / row["blocks_total"]}
        for row in series.rows
        if row.get("blocks_mean") is not None and row.get("blocks_total")
    ]
    return replace(series, rows=tuple(rows))
