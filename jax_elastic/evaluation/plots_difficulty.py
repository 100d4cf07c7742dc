"""What images use against how hard they are: by quarters of the losses, and image by image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from jax_elastic.evaluation.difficulty import Spent, difficulty_row
from jax_elastic.evaluation.figures import (
    GREY,
    SMALL,
    VERMILLION,
    Floats,
    new_panels,
    series_style,
)
from jax_elastic.evaluation.plots_series import Series, finish, look
from jax_elastic.evaluation.rows import name_point
from jax_elastic.evaluation.tables import count_unit

MIDDLES = np.array([12.5, 37.5, 62.5, 87.5])
DODGE = 8.0  # percentiles: how far apart the points of one quarter stand, all together
LEAST_SPAN = 0.1  # of the mean MACs: what the upper axis spans at least; of blocks it is one block
OPAQUE = 500  # images: of more, dots lie on each other and let through what is below
WINDOW = 0.1  # of the images: what the moving mean is over


def draw_usage_against_difficulty(pairs: Sequence[Spent], of: str, title: str) -> Figure:
    """Blocks, or MACs, of images from the easiest to the hardest: two panels.

    Above, the mean of each quarter with its 95 % interval, a line per operating point; below, each
    image at the point where they differ most, with a moving mean.

    Args:
      pairs: of `spent`, at least one, all of one unit.
      of: whose losses tell how hard an image is.
      title: stands above the panels.
    """
    figure, panels = new_panels(5.2, 2)
    panels[0].set_title(title, fontsize=11, loc="left")
    size, unit = _unit(pairs)
    names = [name_point(pair.row) for pair in pairs] if len(pairs) > 1 else ["mean of a quarter"]
    series = [
        Series(name, series_style(i), (difficulty_row(pair),))
        for i, (name, pair) in enumerate(zip(names, pairs, strict=True))
    ]
    for i, one in enumerate(series):
        shift = DODGE * ((i + 0.5) / len(series) - 0.5)
        _draw_quarters(panels[0], one, shift, size)
    panels[0].set_ylabel(f"mean {unit}\n(bar: 95 % interval)")

    widest = max(pairs, key=lambda pair: float(pair.used.std() / max(pair.used.mean(), 1e-9)))
    _draw_images(panels[1], widest, size)
    at = f"\n{name_point(widest.row)}" if len(pairs) > 1 else ""
    panels[1].set_ylabel(f"an image's {unit}{at}")
    panels[1].set_xlabel(f"images by the loss of {of}, %: easiest left, hardest right")
    for axes in panels:
        axes.set_xticks([0, 25, 50, 75, 100])
    finish(figure, panels, series)
    # What hardly differs should not fill the panel.
    _widen_to(
        1.0 if pairs[0].unit == "blocks" else LEAST_SPAN * widest.used.mean() / size, panels[0]
    )
    panels[1].yaxis.set_major_locator(MaxNLocator(integer=pairs[0].unit == "blocks"))
    handles = [
        Line2D([], [], color=GREY, marker=".", linestyle="", label="an image"),
        Line2D(
            [], [], color=VERMILLION, label=f"mean of the {WINDOW:.0%} around".replace("%", " %")
        ),
    ]
    panels[1].legend(
        handles=handles,
        fontsize=SMALL,
        frameon=False,
        ncols=2,
        loc="lower left",
        bbox_to_anchor=(0, 1),
    )
    figure.align_ylabels(panels)
    return figure


def _unit(pairs: Sequence[Spent]) -> tuple[float, str]:
    """What to divide by, and what the axis counts then."""
    if pairs[0].unit == "blocks":
        return 1.0, "open blocks"
    size, name = count_unit(max(float(pair.used.max()) for pair in pairs))
    return size, f"MACs{name and f', {name}'}"


def _widen_to(least: float, axes: Axes) -> None:
    """Widens a y axis that spans less than `least`."""
    low, high = axes.get_ylim()
    more = max(0.0, least - (high - low)) / 2
    axes.set_ylim(low - more, high + more)


def _draw_quarters(axes: Axes, series: Series, shift: float, size: float) -> None:
    (row,) = series.rows
    mean = np.array(row["used_mean"]) / size
    low, high = np.array(row["used_ci95"]).T / size
    bars = np.maximum([mean - low, high - mean], 0)
    x, colour = MIDDLES + shift, series.style.colour
    axes.errorbar(x, mean, bars, fmt="none", ecolor=colour, elinewidth=1.2, capsize=3)
    axes.plot(x, mean, **{**look(series), "linestyle": series.style.line})


def _draw_images(axes: Axes, pair: Spent, size: float) -> None:
    order = np.argsort(pair.loss, kind="stable")
    used, count = pair.used[order] / size, len(order)
    x = 100 * (np.arange(count) + 0.5) / count
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, count) if pair.unit == "blocks" else 0
    dots: dict[str, Any] = {"markersize": 3, "alpha": _alpha(count), "markeredgewidth": 0}
    axes.plot(x, used + jitter, ".", color=GREY, **dots)
    near = max(1, round(WINDOW * count))
    axes.plot(_moving(x, near), _moving(used, near), color=VERMILLION, linewidth=1.6)


def _alpha(count: int) -> float:
    """How opaque dots are: fully up to `OPAQUE` images; of four times as many half as much."""
    return float(min(1.0, (OPAQUE / count) ** 0.5))


def _moving(values: Floats, near: int) -> Floats:
    """Means of `near` values in a row."""
    found: Floats = np.convolve(values, np.full(near, 1 / near), mode="valid")
    return found
