"""Figures of single images: which images are chosen, and what is said of them."""

import dataclasses

import numpy as np
import pytest
from matplotlib.text import Text

from jax_elastic.data.datasets import Dataset
from jax_elastic.evaluation.evaluate import Evaluation
from jax_elastic.evaluation.figures import save_figure
from jax_elastic.evaluation.plots_images import (
    class_extremes,
    draw_class_extremes,
    draw_right_then_wrong,
    right_then_wrong,
)
from jax_elastic.evaluation.plots_run import draw_run

NAMES = ("cat", "dog", "a long name of a class")
LABELS = np.array([0, 0, 0, 1, 1, 2])
COUNTS = np.array([1, 3, 2, 2, 2, 0])  # open blocks, of 3


def dataset(channels=1, size=4):
    images = np.arange(6 * size * size * channels, dtype=np.uint8)
    return Dataset("toy", images.reshape(6, size, size, channels), LABELS[:, None], (3,), NAMES)


def opened(counts=COUNTS):
    return (np.arange(3) < np.asarray(counts)[:, None]).astype(float)


def texts(figure):
    return {artist.get_text() for artist in figure.findobj(Text)}


def evaluation(budgets, top1, **changes):
    row = {"subnet": "full", "n": 6, "top1": 0.5, "top1_ci95": (0.4, 0.6)}
    row |= {"macs_mean": 1e6, "macs_std": 1e5}
    used = {"achieved": 0.5, "achieved_std": 0.1, "achieved_p99": 0.9}
    used |= {"blocks_open": {"block1": 5 / 6, "block2": 2 / 3}}
    used |= {"blocks_stages": [["block1", "block2"], ["block3"]]}
    rows = [{**row, **used, "asked": budget, **changes} for budget in budgets]
    hits = [np.array(row, float) for row in top1]
    of_rows = [opened() for _ in rows], [np.ones(6) for _ in rows]
    return Evaluation(
        rows,
        hits,
        *of_rows,
        choice=[None for _ in rows],
        answer=[LABELS[None]] * len(rows),
        loss=[np.ones(6) for _ in rows],
    )


def test_a_pair_is_the_image_of_a_class_with_fewest_blocks_and_that_with_most():
    # Dogs all open two blocks and there is one image of the third class: no pair of either.
    assert class_extremes(COUNTS, LABELS) == [(0, 1)]


def test_the_classes_that_differ_most_are_shown_in_their_order():
    counts, labels = np.array([5, 4, 2, 9, 1, 3]), np.array([0, 0, 1, 1, 2, 2])
    assert class_extremes(counts, labels, classes=2) == [(2, 3), (4, 5)]


def test_an_image_needs_the_larger_budget_if_it_is_right_there_and_wrong_below():
    assert right_then_wrong([1, 1, 0, 0], [1.0, 0.0, 1.0, 0.0]).tolist() == [1]


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_of_a_pair_has_its_class_its_count_and_whether_it_is_wrong(channels):
    figure = draw_class_extremes(
        dataset(channels), [(0, 1)], opened(), [1, 0, 1, 1, 1, 1], 0.6, "toy"
    )
    assert {"cat", "1 of 3", "3 of 3, wrong", "fewest", "most"} <= texts(figure)
    assert "toy\nwhich images of a class open fewest and most blocks at S = 0.6" in texts(figure)


def test_how_many_images_of_the_class_open_as_many_blocks_is_said_where_one_is_not_alone():
    counts = np.array([1, 1, 3, 2, 2, 0])
    figure = draw_class_extremes(dataset(), [(0, 2)], opened(counts), np.ones(6), None, "toy")
    assert {"1 of 3\nas 1 other", "3 of 3"} <= texts(figure)
    assert "toy\nwhich images of a class open fewest and most blocks" in texts(figure)
    assert "in 2 of 3 classes all images open as many blocks" in texts(figure)


def test_an_image_is_drawn_with_its_own_pixels_on_a_scale_from_0_to_255():
    figure = draw_class_extremes(dataset(), [(0, 1)], opened(), np.ones(6), 0.6, "toy")
    shown = [image for axes in figure.axes for image in axes.images]
    np.testing.assert_array_equal(shown[0].get_array(), dataset().images[0, ..., 0])
    assert [image.get_clim() for image in shown] == [(0, 255)] * 2
    assert {image.get_interpolation() for image in shown} == {"nearest"}


def test_images_that_need_the_larger_budget_tell_both_counts_and_how_often_it_is_the_reverse():
    counts = COUNTS + 1, COUNTS
    figure = draw_right_then_wrong(dataset(3), [1, 5], counts, (0.8, 0.6), "toy", 1)
    assert {"4 → 3 blocks", "1 → 0 blocks", "cat", "a long name of…"} <= texts(figure)
    assert "toy\nright at S = 0.8 and wrong at S = 0.6" in texts(figure)
    assert "2 of 6 images; the other way round 1" in texts(figure)


def test_of_many_images_the_first_are_shown_and_this_is_said():
    many = dataset().take(np.arange(20) % 6)
    counts = (np.full(20, 3), np.full(20, 2))
    figure = draw_right_then_wrong(many, range(15), counts, (0.8, 0.6), "toy", 0)
    assert sum(len(axes.images) for axes in figure.axes) == 12
    assert "15 of 20 images (the first 12 are shown); the other way round 0" in texts(figure)


def test_the_same_images_give_the_same_bytes(tmp_path):
    def save(name):
        figure = draw_class_extremes(dataset(3), [(0, 1)], opened(), np.ones(6), 0.6, "toy")
        return save_figure(figure, tmp_path / name).read_bytes()

    assert save("a.png") == save("b.png")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: draw_class_extremes(dataset(), [], opened(), np.ones(6), 0.6, "toy"),
        lambda: draw_right_then_wrong(dataset(), [], (COUNTS, COUNTS), (0.8, 0.6), "toy", 0),
    ],
)
def test_no_image_makes_no_figure(draw):
    with pytest.raises(ValueError, match="no image"):
        draw()


def test_a_run_with_gates_and_budgets_has_every_figure_at_the_nearest_budgets():
    found = evaluation((0.3, 0.5, 0.9), [[0] * 6, [0] * 6, [1] * 6])
    figures = draw_run(found, dataset(), "toy")
    assert list(figures) == [
        *("accuracy_against_macs", "budget_against_usage", "block_usage_map", "per_image_usage"),
        *("class_extremes", "right_then_wrong"),
    ]
    assert any("most blocks at S = 0.5" in text for text in texts(figures["class_extremes"]))
    assert {"stage 1", "stage 2"} <= texts(figures["block_usage_map"])
    assert "toy\nright at S = 0.9 and wrong at S = 0.5" in texts(figures["right_then_wrong"])


@pytest.mark.parametrize(
    ("budgets", "top1", "why"),
    [
        ((0.6,), [[1] * 6], "it takes two budgets"),
        ((0.6, 0.8), [[1] * 6] * 2, "no image is right at S = 0.8 and wrong at S = 0.6"),
    ],
)
def test_a_figure_without_images_is_left_out_with_the_reason(budgets, top1, why):
    assert why in draw_run(evaluation(budgets, top1), dataset(), "toy")["right_then_wrong"]


def test_pairs_are_left_out_where_all_images_open_as_many_blocks():
    found = evaluation((0.6, 0.8), [[1] * 6] * 2)
    found.opened[:] = [np.ones((6, 3))] * 2
    assert "open as many blocks" in draw_run(found, dataset(), "toy")["class_extremes"]


def test_a_run_with_gates_and_no_budget_has_its_usage_and_no_budgets_figures():
    found = evaluation((None,), [[1, 0, 1, 1, 1, 1]])
    figures = draw_run(found, dataset(), "toy")
    names = ["accuracy_against_macs", "kept_ratio", "per_image_usage", "class_extremes"]
    assert list(figures) == names
    assert {"stage 1", "stage 2", "always runs"} <= texts(figures["kept_ratio"])
    assert not any("S = " in text for name in names for text in texts(figures[name]))


def test_pairs_without_a_budget_are_left_out_where_all_images_open_as_many_blocks():
    found = evaluation((None,), [[1] * 6])
    found.opened[:] = [np.ones((6, 3))]
    told = draw_run(found, dataset(), "toy")["class_extremes"]
    assert told == "all images of a class open as many blocks"


def test_random_gates_say_nothing_of_single_images():
    found = evaluation((0.6, 0.8), [[0] * 6, [1] * 6], draws=10, top1_draws_ci95=(0.4, 0.6))
    figures = draw_run(found, dataset(), "toy")
    assert "class_extremes" not in figures and "right_then_wrong" not in figures
    assert "toy, means of 10 draws" in texts(figures["per_image_usage"])


def test_of_several_label_levels_the_finest_is_drawn():
    fine = evaluation((0.3, 0.5, 0.9), [[0] * 6, [0] * 6, [1] * 6], level=0, level_name="class")
    coarse = evaluation((0.3, 0.5, 0.9), [[1] * 6] * 3, level=1, level_name="kind", achieved=0.9)
    names = [field.name for field in dataclasses.fields(Evaluation)]
    both = Evaluation(*(getattr(fine, name) + getattr(coarse, name) for name in names))

    figures, alone = draw_run(both, dataset(), "toy"), draw_run(fine, dataset(), "toy")

    assert list(figures) == list(alone)
    assert [texts(figure) for figure in figures.values()] == [texts(f) for f in alone.values()]


def test_a_run_without_gates_has_accuracy_against_macs_alone():
    found = evaluation((None,), [[1] * 6])
    found.opened[:] = [None]
    assert list(draw_run(found, dataset(), "toy")) == ["accuracy_against_macs"]
