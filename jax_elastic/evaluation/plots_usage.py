"""How a network that nobody asks for a budget uses its blocks: by block, and by image."""

from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from jax_elastic.evaluation.figures import BLUE, GREY, SMALL, VERMILLION, new_figure

SEEN_FROM = 0.02  # a share: a lower bar would not be told from none, so it has its number

SIDE_BY_SIDE = 20  # bars: more are too narrow for numbers that are not turned


def draw_kept_ratio(usage: ArrayLike, title: str, stages: tuple[int, ...] | None = None) -> Figure:
    """How often each block runs, as bars.

    Where hardly any image opens a block, its share is written; where none does, it is marked.

    Args:
      usage: (N,), share of the images in [0, 1] that open block n; NaN of one that always runs.
      title: stands above the axes.
      stages: blocks per stage, summing to N; draws and names the boundaries.

    References:
      SGAD, figure 4.
    """
    shares = np.asarray(usage, float)
    if shares.ndim != 1 or not shares.size:
        raise ValueError(f"usage has shape {shares.shape}; expected (blocks,)")
    if stages is not None and sum(stages) != len(shares):
        raise ValueError(f"stages {stages} hold {sum(stages)} blocks; usage has {len(shares)}")
    figure, axes = new_figure(3.4, title)
    blocks, always = np.arange(1, len(shares) + 1), np.isnan(shares)
    axes.bar(blocks[~always], shares[~always], 0.8, color=BLUE)
    if always.any():
        axes.bar(blocks[always], 1, 0.8, color="0.9", label="always runs")
    gated = shares[~always]
    told = f"mean, {gated.sum():.2f} of {len(gated)} blocks an image"
    axes.axhline(gated.mean(), color=GREY, linewidth=1, linestyle="--", label=told)
    never = blocks[shares == 0]
    if len(never):
        axes.plot(never, 0 * never + 0.025, "x", color=VERMILLION, label="opened by no image")
    for block, share in zip(blocks, shares, strict=True):
        if 0 < share < SEEN_FROM:
            look: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "bottom"}
            axes.text(int(block), share + 0.02, f"{100 * share:.1g} %", fontsize=SMALL, **look)
    _name_stages(axes, stages)
    axes.set_title(title, fontsize=11, loc="left", pad=20 if stages else 6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.set(xlim=(0.4, len(shares) + 0.6), ylim=(0, 1.02))
    axes.set_xlabel("block, from the input")
    axes.set_ylabel("share of images that open it")
    figure.legend(fontsize=SMALL, loc="outside lower center", ncols=2, frameon=False)
    return figure


def draw_image_usage(opened: ArrayLike, title: str, blocks: int) -> Figure:
    """How many images open how many blocks, as a histogram with a bar per number of blocks.

    Args:
      opened: (images,), open blocks of each, or their mean over random draws.
      title: stands above the axes.
      blocks: number of gated blocks N; the bins are 0, 1, ... N open blocks.
    """
    counts = np.asarray(opened, float)
    if counts.ndim != 1 or not counts.size:
        raise ValueError(f"opened has shape {counts.shape}; expected (images,)")
    figure, axes = new_figure(3.0, title)
    images = np.bincount(np.rint(counts).astype(int), minlength=blocks + 1)
    bars = axes.bar(np.arange(blocks + 1), images, 0.9, color=BLUE)
    # A bar of a few among thousands cannot be seen.
    upright = 90 if blocks > SIDE_BY_SIDE else 0
    told = [f" {n:,}" if n else "" for n in images]
    axes.bar_label(bars, told, fontsize=SMALL, rotation=upright)
    axes.margins(y=0.2 if upright else 0.12)
    axes.set_xlim(-0.7, blocks + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.set_xlabel(
        f"open blocks of an image, of {blocks} (mean {counts.mean():.2f}, std {counts.std():.2f})"
    )
    axes.set_ylabel(f"images, of {len(counts):,}")
    return figure


def _name_stages(axes: Axes, stages: tuple[int, ...] | None) -> None:
    """Names each stage above the axes and parts it from the next."""
    edges = np.cumsum((0, *(stages or ())))
    for boundary in edges[1:-1]:
        axes.axvline(boundary + 0.5, color=GREY, linewidth=0.8, linestyle=":")
    for i, (start, end) in enumerate(pairwise(edges)):
        place = (start + end + 1) / 2, 1.03
        axes.text(*place, f"stage {i + 1}", ha="center", va="bottom", fontsize=SMALL)
