"""Figures of networks in which each image chooses its operating point among candidates."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from jax_elastic.data.datasets import Dataset
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import (
    SMALL,
    Floats,
    label_points,
    new_figure,
    new_grid,
    series_style,
)
from jax_elastic.evaluation.pareto import thinned
from jax_elastic.evaluation.plots_images import LONGEST, caption, class_name, show_image
from jax_elastic.evaluation.plots_series import (
    Series,
    accuracy_axis,
    draw_intervals,
    finish,
    look,
)
from jax_elastic.evaluation.rows import Row
from jax_elastic.evaluation.tables import count_unit, format_share

RANGE = (5, 95)  # percentiles of the images' MACs that a bar spans
TOLD = 0.06  # shares from here on are written into their bars
BELOW = 7  # points: how far below its point a range is drawn
NAMED = 6  # candidates that have their names beside them
EXAMPLES = (6, 6)  # candidates and images of each in a picture


def chooses(row: Row) -> bool:
    """Whether a row's images chose among candidates."""
    return row.get("choices") is not None


def draw_choices(rows: Sequence[Row], candidates: Sequence[str], title: str) -> Figure:
    """How many images chose which candidate, a bar for each operating point.

    Args:
      rows: fields subnet and choices, the share of the images in [0, 1] for each candidate; rows
        without choices are left out.
      candidates: what they are called, cheapest first.
      title: stands above the axes.

    Raises:
      UsageError: no row has choices.
    """
    kept = [row for row in rows if chooses(row)]
    if not kept:
        raise UsageError("no image chooses between candidates")
    figure, axes = new_figure(1.7 + 0.34 * len(kept) + 0.17 * len(candidates), title)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(candidates)))
    places, left = np.arange(len(kept)), np.zeros(len(kept))
    shares = 100 * np.array([row["choices"] for row in kept], float)
    for name, colour, share in zip(candidates, colours, shares.T, strict=True):
        axes.barh(places, share, left=left, color=colour, height=0.8, label=name)
        light = sum(colour[:3]) > 1.3
        for place in np.flatnonzero(share >= 100 * TOLD).tolist():
            axes.text(
                left[place] + share[place] / 2,
                place,
                f"{share[place]:.0f}",
                color="black" if light else "white",
                ha="center",
                va="center",
                fontsize=SMALL,
            )
        left += share
    axes.set_yticks(places, [row["subnet"] for row in kept])
    axes.margins(y=0.02)
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="share of the images that choose it, %")
    figure.legend(
        title="candidates, cheapest first",
        title_fontsize=SMALL,
        fontsize=SMALL,
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
    return figure


def draw_against_candidates(rows: Sequence[Row], macs: Sequence[Floats], title: str) -> Figure:
    """Top-1 (percent) against MACs where images choose, beside what is run alike for all images.

    A thin line below a point spans what most images cost. Hollow points, which lie on no line,
    leave out what it takes to choose.

    Args:
      rows: fields subnet, top1, top1_ci95, macs_mean; of those whose images choose also choices
        and macs_chosen_mean.
      macs: of each row (n,), what each image cost.
      title: stands above the axes.

    Raises:
      UsageError: no row has choices.

    References:
      Resizable networks, figure 2d.
    """
    if not any(map(chooses, rows)):
        raise UsageError("no image chooses between candidates")
    low, high = RANGE
    spread = [
        {**row, "low": np.percentile(of_row, low), "high": np.percentile(of_row, high)}
        for row, of_row in zip(rows, macs, strict=True)
    ]
    chosen = Series(
        f"chosen for each image (line below: {high - low} % of the images)",
        series_style(0),
        tuple(row for row in spread if chooses(row)),
    ).by("macs_mean")
    alone = Series(
        "the same without what it takes to choose", series_style(0), chosen.rows, published=True
    )
    same = Series(
        "one point for all images",
        series_style(1),
        tuple(row for row in spread if not chooses(row)),
    ).by("macs_mean")
    size, unit = count_unit(float(max(row["high"] for row in spread)))
    figure, axes = new_figure(4.3, title)
    mean = chosen.values("macs_mean", 1 / size)
    top1 = chosen.values("top1", 100)
    ends = chosen.values("low", 1 / size), chosen.values("high", 1 / size)
    _draw_range(axes, top1, ends, chosen.style.colour)
    drawn = [chosen, alone]
    axes.plot(alone.values("macs_chosen_mean", 1 / size), top1, **look(alone))
    axes.plot(mean, top1, **look(chosen))
    draw_intervals(axes, mean, chosen)
    if same.rows:
        at = same.values("macs_mean", 1 / size)
        draw_intervals(axes, at, same)
        axes.plot(at, same.values("top1", 100), **{**look(same), "linestyle": ":"})
        drawn.append(same)
    axes.set_xlabel(f"MACs per image{unit and f', {unit}'}")
    accuracy_axis(axes, [one for one in (chosen, same) if one.rows], ["bar: 95 % interval"])
    finish(figure, [axes], drawn)
    # Of many names one would cover the other.
    named = [(row, row["subnet"]) for row in chosen.rows]
    named += [(row, _short(row)) for row in thinned(same.rows, NAMED)]
    label_points(axes, [(row["macs_mean"] / size, 100 * row["top1"], told) for row, told in named])
    return figure


def _draw_range(axes: Axes, y: Floats, ends: tuple[Floats, Floats], colour: str) -> None:
    """Thin lines from one end to the other, a little below y so that they cross no marker."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    below = ScaledTranslation(0, -BELOW / 72, figure.dpi_scale_trans)
    thin: dict[str, Any] = {"color": colour, "linewidth": 0.8, "alpha": 0.75}
    axes.hlines(y, *ends, transform=axes.transData + below, **thin)
    for end in ends:  # what is moved aside is not seen by the limits of the axes
        axes.update_datalim(np.stack([end, y], -1))


def _short(row: Row) -> str:
    """The numbers of a row's operating point where it has several, else the whole of it."""
    subnet = str(row["subnet"])
    return subnet.partition(":")[2] if "," in subnet else subnet


def draw_examples(
    dataset: Dataset,
    choice: npt.NDArray[np.int32],
    answer: npt.NDArray[np.int32],
    candidates: Sequence[str],
    title: str,
) -> Figure:
    """Images that chose each candidate, a row for each that some image chose.

    Args:
      dataset: the images that were evaluated, in their order; the first of each row are shown.
      choice: (n,), which candidate each chose.
      answer: (n,), the class that each was taken for; said where it is another than its own.
      candidates: what they are called, cheapest first. Of more than fit the cheapest, the most
        expensive and some between are shown.
      title: stands above, before a line on what is shown.

    References:
      Resizable networks, RS-Adapt.
    """
    most, columns = EXAMPLES
    chosen = thinned(np.unique(choice).tolist(), most)
    of = "" if len(np.unique(choice)) == len(chosen) else f", {len(chosen)} of those chosen"
    about = f"first images that chose each candidate, cheapest first{of}"
    figure, grid = new_grid(0.8 + 1.45 * len(chosen), len(chosen), columns, f"{title}\n{about}")
    for row, candidate in zip(grid, chosen, strict=True):
        images = np.flatnonzero(choice == candidate)
        share = format_share(len(images) / len(choice))
        told = f"{candidates[candidate]}: {len(images):,} of {len(choice):,} images ({share})"
        row[0].set_title(" ", fontsize=SMALL)
        # A title's own width would part the columns.
        place: dict[str, Any] = {"xy": (0, 1), "xytext": (0, 5), "xycoords": "axes fraction"}
        line = row[0].annotate(told, **place, textcoords="offset points", fontsize=SMALL)
        line.set_in_layout(False)
        for axes, image in zip(row, images.tolist(), strict=False):
            show_image(axes, dataset, image)
            caption(axes, _answered(dataset, image, int(answer[image])))
    return figure


def _answered(dataset: Dataset, image: int, answer: int) -> str:
    """The class of an image, and what it was taken for where that is another."""
    own = int(dataset.labels[image, 0])
    name = class_name(dataset, own)
    if answer == own:
        return name
    told = f"{name}, taken for {class_name(dataset, answer)}"
    return told if len(told) <= LONGEST else told.replace(", ", ",\n", 1)
