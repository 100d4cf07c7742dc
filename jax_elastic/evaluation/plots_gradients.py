"""The figure of how often blocks run, beside the gradients of the same blocks in other runs."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import SMALL, Style, new_panels, series_style
from jax_elastic.evaluation.rows import Row, name_point

Stages = tuple[tuple[str, ...], ...]


def by_blocks(rows: Sequence[Row]) -> dict[Stages, list[Row]]:
    """Rows of `with_gradients` that stand beside some, by the stages of their networks."""
    found: dict[Stages, list[Row]] = {}
    for row in rows:
        if row.get("gradients"):
            found.setdefault(tuple(map(tuple, row["blocks_stages"])), []).append(row)
    return found


def draw_blocks_beside_gradients(rows: Sequence[Row], title: str) -> Figure:
    """Mean |dL/dW| of each block, and below it the share of the images that open the block.

    Lines end where stages do. Blocks that always run have a gradient alone.

    Args:
      rows: of `by_blocks`, of one network's stages.
      title: stands above the panels.

    References:
      SGAD (2018), figure 4.
    """
    if not rows:
        raise UsageError("there are no blocks beside gradients to plot")
    stages: list[list[str]] = rows[0]["blocks_stages"]
    figure, (above, below) = new_panels(4.6, 2)
    above.set_title(title, fontsize=11, loc="left", pad=20)
    gradients = {one["run"]: one for row in rows for one in row["gradients"]}
    lines: list[tuple[Axes, dict[str, float], str]] = [
        *((above, one["gradient"], f"gradients of {run}") for run, one in gradients.items()),
        *((below, row["blocks_open"], _name(row, rows)) for row in rows),
    ]
    for i, (axes, values, name) in enumerate(lines):
        _draw(axes, values, stages, name, series_style(i))
    above.set_ylim(0, 1.08 * max(max(one["gradient"].values()) for one in gradients.values()))
    above.set_ylabel("mean |dL/dW|")
    below.set_ylim(-0.03, 1.03)
    below.set_ylabel("share of images\nthat open it")
    below.set_xlabel("block, from the input")
    below.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=15))
    edges = np.cumsum([0, *map(len, stages)])
    for axes in (above, below):
        axes.grid(color="0.9", linewidth=0.6)
        for edge in edges[1:-1]:
            axes.axvline(edge + 0.5, color="0.4", linewidth=0.8, linestyle=":")
    for i, (start, end) in enumerate(pairwise(edges), 1):
        place = (start + end + 1) / 2, 1.02
        above.annotate(
            f"stage {i}", place, xycoords=("data", "axes fraction"), ha="center", fontsize=SMALL
        )
    figure.legend(fontsize=SMALL, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw(
    axes: Axes, values: dict[str, float], stages: list[list[str]], name: str, style: Style
) -> None:
    x: list[float] = []
    y: list[float] = []
    place = 0
    for stage in stages:
        for block in stage:
            place += 1
            x.append(place)
            y.append(values.get(block, np.nan))
        x.append(place + 0.5)  # a gap
        y.append(np.nan)
    axes.plot(
        x,
        y,
        label=name,
        color=style.colour,
        marker=style.marker,
        linestyle=style.line,
        linewidth=1,
        markersize=5,
    )


def _name(row: Row, rows: Sequence[Row]) -> str:
    """The run; where several rows are of one, also the point."""
    alone = sum(other["run"] == row["run"] for other in rows) == 1
    return f"{row['run']}" if alone else f"{row['run']}, {name_point(row)}"
