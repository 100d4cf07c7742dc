"""Single images beside what they cost: which open few and many blocks, which need a larger budget.

What is drawn is chosen by `class_extremes` and `right_then_wrong`, from an `Evaluation`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jax_elastic.data.datasets import Dataset
from jax_elastic.evaluation.figures import GREY, SMALL, new_grid

PAIRS = 5  # classes in a picture
GRID = (2, 6)  # rows and columns of images in a picture
LONGEST = 15  # characters of a class name that fit over an image

Ids = npt.NDArray[np.intp]


def class_extremes(
    counts: ArrayLike, labels: ArrayLike, classes: int = PAIRS
) -> list[tuple[int, int]]:
    """The images that open fewest and most blocks, of the classes where these differ most.

    Args:
      counts: (n,), open blocks of each image.
      labels: (n,), its class.
      classes: how many at most.

    Returns:
      One (fewest, most) per class, as indices of images, in the order of the classes; of equal
      images the first. Empty where all images of each class open the same number.
    """
    count, label = np.asarray(counts), np.asarray(labels)
    pairs = []
    for one in np.unique(label):
        ids = np.flatnonzero(label == one)
        pairs.append((int(ids[count[ids].argmin()]), int(ids[count[ids].argmax()])))
    # A stable sort: of equal differences the class with the lower number stays first.
    widest = sorted(pairs, key=lambda pair: float(count[pair[0]] - count[pair[1]]))[:classes]
    return [pair for pair in pairs if pair in widest and count[pair[0]] < count[pair[1]]]


def right_then_wrong(more: ArrayLike, less: ArrayLike) -> Ids:
    """Which images are told right with more blocks and wrong with less; bool or 0 and 1, (n,)."""
    found: Ids = np.flatnonzero((np.asarray(more) > 0.5) & (np.asarray(less) < 0.5))
    return found


def draw_class_extremes(
    dataset: Dataset,
    pairs: Sequence[tuple[int, int]],
    opened: ArrayLike,
    right: ArrayLike,
    budget: float | None,
    title: str,
) -> Figure:
    """Pairs of images of one class: the one that opens fewest blocks over that which opens most.

    Below each stands how many images of its class open as many blocks, where it is not alone, and
    below all in how many classes there are no such pairs, because all images open as many.

    Args:
      dataset: the images that were evaluated, in their order.
      pairs: what `class_extremes` chose.
      opened: (n, N), which blocks each image opens.
      right: (n,), whether each image is told right; of the others this is said.
      budget: S, what was asked, if anything was.
      title: stands above, before a line on what is shown.

    References:
      URNet, figure 6.
    """
    _check(len(pairs))
    shares, hits, labels = np.asarray(opened, float), np.asarray(right), dataset.labels[:, 0]
    counts = shares.sum(1)
    at = "" if budget is None else f" at S = {budget:g}"
    about = f"which images of a class open fewest and most blocks{at}"
    # Never so few columns that images fill the page.
    figure, grid = new_grid(3.5, 2, max(len(pairs), PAIRS - 1), f"{title}\n{about}")
    for row, name in zip(grid, ("fewest", "most"), strict=True):
        row[0].set_ylabel(name, fontsize=10)
    for j, pair in enumerate(pairs):
        for i, image in enumerate(pair):
            show_image(grid[i][j], dataset, image)
            of = f"{counts[image]:g} of {shares.shape[1]}"
            wrong = "" if hits[image] > 0.5 else ", wrong"
            alike = int(((labels == labels[image]) & (counts == counts[image])).sum())
            others = f"\nas {alike - 1:,} other{'s' if alike > 2 else ''}" if alike > 1 else ""
            caption(grid[i][j], f"{of}{wrong}{others}")
        grid[0][j].set_title(class_name(dataset, labels[pair[0]]), fontsize=SMALL)
    present = np.unique(labels)
    tied = sum(len(np.unique(counts[labels == one])) == 1 for one in present)
    if tied:
        note = f"in {tied} of {len(present)} classes all images open as many blocks"
        figure.supxlabel(note, fontsize=SMALL, x=0.01, ha="left")
    return figure


def draw_right_then_wrong(
    dataset: Dataset,
    images: ArrayLike,
    counts: tuple[ArrayLike, ArrayLike],
    budgets: tuple[float, float],
    title: str,
    reverse: int,
) -> Figure:
    """Images that are told right at the larger of two budgets and wrong at the smaller.

    Args:
      dataset: the images that were evaluated, in their order.
      images: indices, what `right_then_wrong` chose; the first that fit in `GRID` are shown.
      counts: (n,) open blocks of each image at the larger budget, and at the smaller.
      budgets: both, the larger first.
      title: stands above, before a line on what is shown.
      reverse: how many images are right at the smaller budget alone, which is said beside.

    References:
      URNet, figure 7.
    """
    ids = np.asarray(images)
    _check(len(ids))
    rows, columns = GRID
    rows = min(rows, -(-len(ids) // columns))
    shown = ids[: rows * columns]
    more, less = (np.asarray(count, float) for count in counts)
    high, low = budgets
    about = f"right at S = {high:g} and wrong at S = {low:g}"
    figure, grid = new_grid(0.85 + 1.4 * rows, rows, columns, f"{title}\n{about}")
    first = f" (the first {len(shown)} are shown)" if len(shown) < len(ids) else ""
    note = f"{len(ids):,} of {len(dataset):,} images{first}; the other way round {reverse:,}"
    figure.supxlabel(note, fontsize=SMALL, x=0.01, ha="left")
    for axes, image in zip((axes for row in grid for axes in row), shown, strict=False):
        show_image(axes, dataset, image)
        axes.set_title(class_name(dataset, dataset.labels[image, 0]), fontsize=SMALL)
        caption(axes, f"{more[image]:g} → {less[image]:g} blocks")
    return figure


def _check(count: int) -> None:
    if not count:
        raise ValueError("there is no image to draw")


def show_image(axes: Axes, dataset: Dataset, image: int) -> None:
    """Draws an image of a set."""
    pixels = dataset.images[image]
    # Grey images have one channel, which imshow wants left out; pixels of any size stay square.
    axes.imshow(
        pixels[..., 0] if pixels.shape[-1] == 1 else pixels,
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="nearest",
    )


def caption(axes: Axes, text: str) -> None:
    """Writes below an image."""
    axes.set_xlabel(text, fontsize=SMALL, color=GREY, labelpad=3)


def class_name(dataset: Dataset, label: int) -> str:
    """The name of a class, cut to what fits above an image."""
    name = dataset.class_names[label]
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
