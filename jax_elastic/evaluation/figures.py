"""What every figure of the project shares: canvas, colours, labels that keep apart, PNG bytes.

Only matplotlib's object interface is used, so there is no current figure, no display and no state
between calls: any thread may draw.
"""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from numpy.typing import ArrayLike

from jax_elastic.files import replace_file

Floats = npt.NDArray[np.float64]

DPI = 150
WIDTH = 6.4  # inches: 960 pixels, shown at about 800 in a README

# Okabe and Ito 2008: told apart with every common form of colour blindness.
BLUE, VERMILLION, ORANGE, GREY = "#0072B2", "#D55E00", "#E69F00", "#666666"
GREEN, PURPLE, SKY, BLACK = "#009E73", "#CC79A7", "#56B4E9", "#000000"

SMALL = 8.5  # points: annotations and legends

# Where a label may stand, best first: offset in points, the side of the text that faces the point.
_PLACES = tuple(
    place
    for far in (5, 18, 31)
    for place in (
        (5, -far, "left", "top"),
        (-5, far, "right", "bottom"),
        (5, far, "left", "bottom"),
        (-5, -far, "right", "top"),
    )
)


@dataclass(frozen=True)
class Style:
    """How a series is told from the others, with colours and without.

    Attributes:
      colour: of its line, markers and bars.
      marker: as matplotlib names it.
      line: dashes, as matplotlib names them.
    """

    colour: str
    marker: str
    line: str


_COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
_MARKERS = "os^DvPX*<>"
_LINES = ("-", "--", "-.", ":")


def series_style(index: int) -> Style:
    """The style of series 0, 1, ...: seventy differ, the first ten by their markers alone."""
    colour, marker = _COLOURS[index % len(_COLOURS)], _MARKERS[index % len(_MARKERS)]
    return Style(colour, marker, _LINES[index // len(_COLOURS) % len(_LINES)])


def new_figure(height: float, title: str) -> tuple[Figure, Axes]:
    """A figure `WIDTH` x `height` inches at `DPI`, with one titled axes."""
    figure, (axes,) = new_panels(height, 1)
    axes.set_title(title, fontsize=11, loc="left")
    return figure, axes


def new_panels(height: float, panels: int) -> tuple[Figure, list[Axes]]:
    """A figure as `new_figure` makes it, with panels above each other that share their x axis."""
    figure = _canvas(height)
    column = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
    for axes in column:
        axes.tick_params(labelsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    return figure, list(column)


def new_grid(height: float, rows: int, columns: int, title: str) -> tuple[Figure, list[list[Axes]]]:
    """A titled figure with rows of axes that have neither frame nor ticks, for images."""
    figure = _canvas(height)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=(), yticks=(), frame_on=False)
    return figure, [list(row) for row in grid]


def _canvas(height: float) -> Figure:
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Writes the figure as PNG, atomically; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    # No program version in the file: it would change the bytes with every matplotlib.
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return replace_file(path, buffer.getvalue())


WIDEN_FROM = 25.0  # percentage points between the lowest and the highest accuracy
WIDEN_ABOVE = 95.0  # percent: below, a point of accuracy is as much as any other


def widen_top(axes: Axes, low: float, high: float) -> bool:
    """Where accuracies near 100 % stand beside far lower ones, stretches the y axis towards them.

    The axis is then logarithmic in the distance to a point just above `high`, as errors are
    compared there, so that runs which differ by a percent can be told apart beside one that fails.

    Args:
      axes: its y axis is accuracy in percent.
      low: lowest accuracy shown.
      high: highest.

    Returns:
      Whether it was done, since `high` is `WIDEN_ABOVE` or more, and `WIDEN_FROM` points above
      `low`; say so on the axis.
    """
    if high < WIDEN_ABOVE or high - low < WIDEN_FROM:
        return False
    above = high + 2.0

    def forward(percent: ArrayLike) -> Floats:
        # Nothing drawn reaches the point itself, but the axis is asked for it.
        return np.asarray(-np.log(np.maximum(above - np.asarray(percent, float), 0.1)))

    def backward(stretched: ArrayLike) -> Floats:
        return np.asarray(above - np.exp(-np.asarray(stretched, float)))

    axes.set_yscale("function", functions=(forward, backward))
    bottom, top = float(forward(low)), float(forward(high))
    margin = 0.05 * (top - bottom)
    axes.set_ylim(float(backward(bottom - margin)), float(backward(top + margin)))
    ticks: list[float] = []
    for step in (20, 10, 5, 2, 1):
        for tick in range(0, 101, step):
            here = float(forward(tick))
            apart = min((abs(here - float(forward(one))) for one in ticks), default=np.inf)
            # Round numbers first; fine ones only where the scale is wide.
            fits = low <= tick <= high and above - tick <= 8 * step
            if fits and apart >= 0.075 * (top - bottom):
                ticks.append(tick)
    axes.set_yticks(sorted(ticks))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    return True


def label_points(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Writes each point's label beside it, apart from other labels, points and error bars.

    Points closer than a marker (6 pixels) share one label. Call it last: it needs the final limits.

    Args:
      axes: of a figure that `new_figure` made.
      points: (x, y, label) in data coordinates.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    merged: list[tuple[float, float, str]] = []
    taken: list[Bbox] = []
    for x, y, label in points:
        across, up = axes.transData.transform((x, y))
        near = [i for i, box in enumerate(taken) if box.contains(across, up)]
        if near:
            first = merged[near[0]]
            merged[near[0]] = (first[0], first[1], f"{first[2]}, {label}")
        else:
            merged.append((x, y, label))
            taken.append(Bbox.from_extents(across - 6, up - 6, across + 6, up + 6))
    for x, y, label in merged:
        taken.append(_place(axes, x, y, label, taken))


def _place(axes: Axes, x: float, y: float, label: str, taken: Sequence[Bbox]) -> Bbox:
    """Writes one label at the first of the `_PLACES` that cover least; returns where it stands."""
    text = axes.annotate(label, (x, y), (0, 0), textcoords="offset points", fontsize=SMALL)
    text.set_in_layout(False)
    text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])

    def move(place: tuple[int, int, str, str]) -> Bbox:
        across, up, horizontal, vertical = place
        text.set(position=(across, up), ha=horizontal, va=vertical)
        return text.get_window_extent()

    bars = _error_bars(axes)

    def harm(place: tuple[int, int, str, str]) -> int:
        box = move(place)
        inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
        inside = inside and axes.bbox.y0 <= box.y0 and box.y1 <= axes.bbox.y1
        # A label on a label cannot be read; one that crosses a bar can.
        return 100 * (not inside) + 100 * box.count_overlaps(taken) + box.count_overlaps(bars)

    return move(min(_PLACES, key=harm))


def _error_bars(axes: Axes) -> list[Bbox]:
    """The boxes, in pixels, of all line segments that error bars are made of."""
    lines = (c for c in axes.collections if isinstance(c, LineCollection))
    ends = (line.get_transform().transform(s) for line in lines for s in line.get_segments())
    return [Bbox([end.min(axis=0) - 1, end.max(axis=0) + 1]) for end in ends]
