"""Figures of a network without budgets: its usage by block and by image."""

import numpy as np
import pytest
from matplotlib.text import Text

from jax_elastic.evaluation.figures import save_figure
from jax_elastic.evaluation.plots_usage import draw_image_usage, draw_kept_ratio

USAGE = np.array([1, 0.5, 0, 0.25, 0, 0.25])
OPENED = np.array([2, 3, 3, 5])


def texts(figure):
    return {artist.get_text() for artist in figure.findobj(Text)}


def bars(figure):
    return [bar.get_height() for bar in figure.axes[0].containers[0]]


def test_each_block_has_a_bar_and_those_that_nobody_opens_a_mark():
    figure = draw_kept_ratio(USAGE, "toy", (2, 4))
    assert bars(figure) == USAGE.tolist()
    (marks,) = (line for line in figure.axes[0].lines if line.get_marker() == "x")
    assert marks.get_xdata().tolist() == [3, 5]
    assert {"toy", "stage 1", "stage 2", "opened by no image"} <= texts(figure)
    assert "mean, 2.00 of 6 blocks an image" in texts(figure)


def test_a_block_that_always_runs_has_its_place_and_no_part_in_the_mean():
    figure = draw_kept_ratio([*USAGE, np.nan], "toy", (2, 5))
    gated, always = figure.axes[0].containers
    assert [bar.get_height() for bar in gated] == USAGE.tolist()
    assert [bar.get_center()[0] for bar in always] == [7]
    assert {"always runs", "mean, 2.00 of 6 blocks an image"} <= texts(figure)


def test_where_every_block_is_used_none_is_marked():
    assert "opened by no image" not in texts(draw_kept_ratio(USAGE[:2], "toy"))


def test_a_share_that_is_too_small_for_a_bar_is_written():
    assert "0.3 %" in texts(draw_kept_ratio([0.5, 0.003, 0.02], "toy"))
    assert not any("%" in text for text in texts(draw_kept_ratio([0.5, 0.0, 0.02], "toy")))


def test_each_number_of_open_blocks_has_a_bar_with_its_images():
    figure = draw_image_usage(OPENED, "toy", 6)
    assert bars(figure) == [0, 0, 1, 2, 0, 1, 0]
    assert "open blocks of an image, of 6 (mean 3.25, std 1.09)" in texts(figure)
    assert {" 1", " 2", "images, of 4"} <= texts(figure)


@pytest.mark.parametrize(
    "draw",
    [lambda: draw_kept_ratio(USAGE, "t", (2, 4)), lambda: draw_image_usage(OPENED, "t", 6)],
    ids=["blocks", "images"],
)
def test_the_same_usage_gives_the_same_bytes(draw, tmp_path):
    first, second = (save_figure(draw(), tmp_path / name).read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (lambda: draw_kept_ratio(USAGE[None], "t"), "expected \\(blocks,\\)"),
        (lambda: draw_kept_ratio(USAGE, "t", (2, 3)), "hold 5 blocks; usage has 6"),
        (lambda: draw_image_usage(OPENED[:0], "t", 6), "expected \\(images,\\)"),
    ],
    ids=["shape", "stages", "empty"],
)
def test_usage_that_does_not_fit_is_refused(draw, told):
    with pytest.raises(ValueError, match=told):
        draw()
