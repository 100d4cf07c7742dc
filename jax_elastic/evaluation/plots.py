"""The figures of an evaluation; `save_figure` writes them as PNG."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import (
    BLUE,
    GREY,
    ORANGE,
    SMALL,
    VERMILLION,
    Floats,
    Style,
    label_points,
    new_figure,
    series_style,
)
from jax_elastic.evaluation.plots_series import Series, grouped, look
from jax_elastic.evaluation.rows import Row
from jax_elastic.evaluation.tables import count_unit
from jax_elastic.subnet import Subnet

FIXED = "fixed operating point"


def draw_accuracy_against_macs(rows: Sequence[Row], title: str) -> Figure:
    """Top-1 (percent) against mean MACs per image, with the 95 % interval and the std of MACs.

    Rows of one subnet that asked for budgets are joined by a line and labelled with them; the
    others are labelled with their subnet, and joined where they are points along one axis. Where
    gates are random, wide caps show what the draws alone leave open.

    Args:
      rows: fields subnet, top1 in [0, 1], top1_ci95 (low, high), macs_mean, and where known n,
        macs_std, asked, draws, top1_draws_ci95.
      title: stands above the axes.
    """
    if not rows:
        raise UsageError("there are no rows to plot")
    figure, axes = new_figure(4.3, title)
    size, unit = count_unit(max(row["macs_mean"] for row in rows))
    points: list[tuple[float, float, str]] = []
    for one in _lines(sorted(rows, key=lambda row: (row["macs_mean"], row["top1"]))):
        macs, top1 = one.values("macs_mean", 1 / size), one.values("top1", 100)
        colour = one.style.colour
        spread = np.array([row.get("macs_std") or 0 for row in one.rows]) / size
        low, high = 100 * np.array([row["top1_ci95"] for row in one.rows]).T
        bars = np.maximum([top1 - low, high - top1], 0)
        axes.errorbar(macs, top1, bars, fmt="none", ecolor=colour, elinewidth=1.2, capsize=3)
        axes.errorbar(macs, top1, xerr=spread, fmt="none", ecolor=colour, elinewidth=0.6, alpha=0.7)
        axes.plot(macs, top1, label=one.name, **{**look(one), "markersize": 5})
        _draw_draws(axes, macs, one.rows, colour)
        labels = [f"{row['asked']:g}" if one.budgets else row["subnet"] for row in one.rows]
        points += zip(macs, top1, labels, strict=True)
    axes.set_xlabel(f"mean MACs per image{unit and f', {unit}'} (thin bar: std over images)")
    axes.set_ylabel(f"top-1, % (bar: 95 % interval{_images(rows)})")
    axes.set_axisbelow(True)
    axes.grid(color="0.9", linewidth=0.6)
    axes.margins(0.08, 0.12)
    figure.legend(fontsize=SMALL, loc="outside lower center", ncols=2, frameon=False)
    label_points(axes, points)
    return figure


def draw_budget_against_usage(rows: Sequence[Row], title: str) -> Figure:
    """The share of blocks that opened against the share that was asked for.

    A point on the diagonal keeps its budget; the dotted line to it is the tracking error.

    Args:
      rows: fields asked, achieved (mean over images), achieved_std, achieved_p99, all in [0, 1];
        rows whose asked is None are left out.
      title: stands above the axes.
    """
    kept = sorted((r for r in rows if r.get("asked") is not None), key=lambda r: float(r["asked"]))
    if not kept:
        raise UsageError("no row asks for a budget", next_step="evaluate with --budgets=0.2,0.6")
    figure, axes = new_figure(4.6, title)
    asked, mean, std, p99 = (
        np.array([row[key] for row in kept], float)
        for key in ("asked", "achieved", "achieved_std", "achieved_p99")
    )
    error = np.abs(mean - asked).mean()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="achieved = asked")
    axes.fill_between(asked, mean - std, mean + std, color=BLUE, alpha=0.2, linewidth=0)
    axes.fill_between([], [], color=BLUE, alpha=0.2, linewidth=0, label="± std over images")
    axes.plot(asked, p99, color=VERMILLION, linewidth=0.9, label="99th percentile of images")
    axes.vlines(asked, asked, mean, color=GREY, linewidth=1, linestyle=":")
    axes.plot(asked, mean, "o-", color=BLUE, linewidth=1.2, markersize=5, label="mean over images")
    axes.plot([], [], ":", color=GREY, linewidth=1, label=f"tracking error, mean {error:.3f}")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_xlabel("asked budget S, share of the blocks")
    axes.set_ylabel("achieved, share of the blocks open")
    axes.set_axisbelow(True)
    axes.grid(color="0.9", linewidth=0.6)
    figure.legend(fontsize=SMALL, loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_block_usage_map(
    usage: ArrayLike,
    budgets: Sequence[float],
    title: str,
    stages: tuple[int, ...] | None = None,
) -> Figure:
    """Which blocks open at which budget, as a heat map.

    Args:
      usage: (S, N), share of the images in [0, 1] that open block n at budget s; white where it is
        NaN, of a block that always runs.
      budgets: (S,), asked shares; drawn from the bottom in this order.
      title: stands above the axes.
      stages: blocks per stage, summing to N; draws and names the boundaries.

    References:
      URNet, figure 4.
    """
    shares = np.asarray(usage, float)
    if shares.ndim != 2 or len(shares) != len(budgets) or not shares.size:
        raise ValueError(f"usage has shape {shares.shape}; expected ({len(budgets)}, blocks)")
    count = shares.shape[1]
    if stages is not None and sum(stages) != count:
        raise ValueError(f"stages {stages} hold {sum(stages)} blocks; usage has {count}")
    figure, axes = new_figure(1.5 + 0.27 * max(len(budgets), 4), title)
    image = axes.imshow(
        shares, cmap="viridis", vmin=0, vmax=1, aspect="auto", origin="lower", interpolation="none"
    )
    bar = figure.colorbar(image, ax=axes, pad=0.02, ticks=(0, 0.25, 0.5, 0.75, 1))
    bar.set_label("share of images that open it", fontsize=9)
    bar.ax.tick_params(labelsize=9)
    axes.set_yticks(range(len(budgets)), [f"{budget:g}" for budget in budgets])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.xaxis.set_major_formatter(lambda index, _: f"{index + 1:g}")
    axes.set_xlabel("block, from the input")
    axes.set_ylabel("asked budget S")
    outline = [patheffects.withStroke(linewidth=2.4, foreground="black")]
    edges = np.cumsum((0, *stages)) if stages else np.array([0])
    for boundary in edges[1:-1]:
        axes.axvline(boundary - 0.5, color="white", linewidth=1, path_effects=outline)
    for i, (start, end) in enumerate(pairwise(edges)):
        middle, top = (start + end - 1) / 2, len(budgets) - 0.4
        axes.text(middle, top, f"stage {i + 1}", ha="center", va="bottom", fontsize=SMALL)
    axes.set_title(title, fontsize=11, loc="left", pad=20 if stages else 6)
    return figure


def draw_per_image_usage(
    open_share: ArrayLike, budgets: Sequence[float], title: str, blocks: int
) -> Figure:
    """How many blocks each image opens: one histogram strip per budget, one bar per block count.

    Args:
      open_share: (S, images), share of the blocks in [0, 1] that each image opens.
      budgets: (S,), asked shares; drawn from the bottom in this order.
      title: stands above the axes.
      blocks: number of gated blocks N; the bins are 0, 1, ... N open blocks.
    """
    shares = np.asarray(open_share, float)
    if shares.ndim != 2 or len(shares) != len(budgets) or not shares.size:
        raise ValueError(f"open_share has shape {shares.shape}; expected ({len(budgets)}, images)")
    figure, axes = new_figure(1.5 + 0.4 * max(len(budgets), 2), title)
    opened = np.rint(shares * blocks).astype(int)
    for i, (counts, budget) in enumerate(zip(opened, budgets, strict=True)):
        images = np.bincount(counts, minlength=blocks + 1)
        name = "_" if i else "images (each strip scaled to its peak)"
        bins = np.arange(blocks + 1)
        axes.bar(bins, 0.8 * images / images.max(), 0.9, i, color=BLUE, label=name)
        asked = "_" if i else "asked share of the blocks"
        axes.vlines(budget * blocks, i, i + 0.85, color=ORANGE, linewidth=2, label=asked)
        axes.axhline(i, color="0.8", linewidth=0.6, zorder=0.5)
        note = f"{counts.mean():.1f} ± {counts.std():.1f}"
        axes.annotate(
            note, (1.01, i), xycoords=("axes fraction", "data"), fontsize=SMALL, va="bottom"
        )
    axes.annotate(
        "mean ± std", (1.01, len(budgets)), xycoords=("axes fraction", "data"), fontsize=SMALL
    )
    axes.set_yticks(range(len(budgets)), [f"{budget:g}" for budget in budgets])
    axes.set(xlim=(-0.7, blocks + 0.7), ylim=(-0.05, len(budgets)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.set_xlabel(f"open blocks of an image, of {blocks}")
    axes.set_ylabel("asked budget S")
    figure.legend(fontsize=SMALL, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _lines(rows: Sequence[Row]) -> list[Series]:
    """What shares a line: budgets of one subnet, points along one axis; then the rest, unjoined."""
    asked = [row for row in rows if row.get("asked") is not None]
    other = [row for row in rows if row.get("asked") is None]
    several = len({row["subnet"] for row in asked}) > 1
    told = "{subnet}: asked budget S" if several else "asked budget S, beside the point"
    found = [
        Series(name, series_style(i), tuple(own))
        for i, (name, own) in enumerate(grouped(asked, told).items())
    ]
    rest: list[Row] = []
    for axis in dict.fromkeys(Subnet.parse(row["subnet"]).axis for row in other):
        own = [row for row in other if Subnet.parse(row["subnet"]).axis == axis]
        one = Series(f"operating points, {axis}", series_style(len(found)), tuple(own))
        if one.joined:
            found.append(one)
        else:
            rest += own
    if rest:
        # Where images differ in what they cost, only the point is fixed, not the network.
        name = "operating point" if any(row.get("macs_std") for row in rest) else FIXED
        found.append(Series(name, Style(VERMILLION, "D", ""), tuple(rest)))
    return found


def _draw_draws(axes: Axes, x: Floats, rows: Sequence[Row], colour: str) -> None:
    """The 95 % interval over random draws, where rows have one, with its name in the legend."""
    there = [i for i, row in enumerate(rows) if row.get("top1_draws_ci95") is not None]
    if not there:
        return
    low, high = 100 * np.array([rows[i]["top1_draws_ci95"] for i in there]).T
    middle, reach = (low + high) / 2, (high - low) / 2
    look: dict[str, Any] = {"elinewidth": 1.6, "capsize": 5.5, "capthick": 1.6}
    name = f"95 % of {rows[there[0]]['draws']} draws (wide caps)"
    axes.errorbar(x[there], middle, reach, fmt="none", ecolor=colour, label=name, **look)


def _images(rows: Sequence[Row]) -> str:
    """The number of images where all rows agree on it, to put behind the interval's name."""
    counts = {row.get("n") for row in rows}
    return f", {counts.pop():,} images" if len(counts) == 1 and None not in counts else ""
