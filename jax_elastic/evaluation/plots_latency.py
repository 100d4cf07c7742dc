"""The picture of a latency table; `save_figure` writes it as PNG."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import (
    BLACK,
    GREY,
    SMALL,
    Style,
    new_panels,
    series_style,
)
from jax_elastic.evaluation.rows import Row
from jax_elastic.evaluation.tables import count_unit

PANEL = 2.3  # inches
SHOWN = 2.0  # times the slowest median: how far up whiskers are shown
DENSE = Style(BLACK, "*", "")


def draw_latency(rows: Sequence[Row], title: str) -> Figure:
    """Milliseconds per image against its MACs, a panel for each batch size, a series per engine.

    A point is the median of the calls, its whisker reaches to their 99th percentile. The dense form
    is a star. The ideal line leads through it from the origin: on it, time is saved as MACs are.

    Args:
      rows: of a latency table, kind ``latency``; each batch size has a row that is `dense`.
      title: stands above the panels.

    Raises:
      UsageError: there are no rows.
    """
    if not rows:
        raise UsageError("there are no rows to plot")
    sizes = list(dict.fromkeys(row["batch_size"] for row in rows))
    engines = list(dict.fromkeys(row["engine"] for row in rows if not row["dense"]))
    scale, unit = count_unit(max(_dense_macs(row) for row in rows))
    figure, panels = new_panels(1.2 + PANEL * len(sizes), len(sizes))
    panels[0].set_title(title, fontsize=11, loc="left")
    for axes, size in zip(panels, sizes, strict=True):
        own = [row for row in rows if row["batch_size"] == size]
        _draw_panel(axes, own, engines, scale)
        axes.annotate(f"batches of {size}", (0.02, 0.9), xycoords="axes fraction", fontsize=SMALL)
        axes.set_ylabel("ms per image")
    panels[-1].set_xlabel(
        f"mean MACs per image{unit and f', {unit}'} (bar: to the 99th percentile)"
    )
    figure.align_ylabels(panels)
    # An engine may be missing where it does not differ from another.
    named = {
        label: handle
        for axes in panels
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        named.values(),
        named.keys(),
        fontsize=SMALL,
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    return figure


def _draw_panel(axes: Axes, rows: Sequence[Row], engines: Sequence[str], scale: float) -> None:
    dense = next(row for row in rows if row["dense"])
    macs, ms = _dense_macs(dense) / scale, dense["ms_per_image"]
    right = 1.05 * max(macs, *(row["macs_mean"] / scale for row in rows))
    top = 1.05 * min(
        max(_whisker(row) for row in rows), SHOWN * max(row["ms_per_image"] for row in rows)
    )
    axes.plot(
        [0, right],
        [0, ms / macs * right],
        color=GREY,
        linewidth=1,
        linestyle="--",
        label="ideal: time as MACs",
    )
    for i, engine in enumerate(engines):
        own = [row for row in rows if row["engine"] == engine and not row["dense"]]
        _draw_series(axes, own, scale, series_style(i), engine)
    _draw_series(axes, [dense], scale, DENSE, f"dense, by {dense['engine']}")
    axes.set(xlim=(0, right), ylim=(0, top))
    axes.grid(color="0.9", linewidth=0.6)


def _draw_series(axes: Axes, rows: Sequence[Row], scale: float, style: Style, name: str) -> None:
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: float(row["macs_mean"]))
    macs = np.array([row["macs_mean"] for row in ordered]) / scale
    ms = np.array([row["ms_per_image"] for row in ordered])
    above = np.array([_whisker(row) for row in ordered]) - ms
    bars = [np.zeros(len(ms)), np.maximum(above, 0)]
    axes.errorbar(macs, ms, bars, fmt="none", ecolor=style.colour, elinewidth=0.8, alpha=0.6)
    axes.plot(
        macs,
        ms,
        color=style.colour,
        marker=style.marker,
        linestyle=style.line,
        linewidth=1,
        markersize=8 if style is DENSE else 4.5,
        label=name,
    )


def _dense_macs(row: Row) -> float:
    """Of the dense form, nominal, per image: every row knows its ratio to it."""
    return float(row["macs_mean"] / row["mac_ratio"])


def _whisker(row: Row) -> float:
    """The 99th percentile of a call, in milliseconds per image."""
    return float(row["ms_p99"] / row["batch_size"])
