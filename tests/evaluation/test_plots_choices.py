"""Figures of networks in which images choose: how often, at what cost, and which images."""

import numpy as np
import pytest
from matplotlib.text import Text

from jax_elastic.data.datasets import Dataset
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.evaluate import Evaluation
from jax_elastic.evaluation.figures import save_figure
from jax_elastic.evaluation.plots_choices import (
    draw_against_candidates,
    draw_choices,
    draw_examples,
)
from jax_elastic.evaluation.plots_run import draw_run

CANDIDATES = ("cut:0.5", "cut:0.75", "cut:1")
CHOICE = np.array([0, 2, 2, 0, 2, 2], np.int32)


def row(subnet, macs, top1, choices=None, **changes):
    found = {"subnet": subnet, "n": 6, "asked": None, "achieved": None, "top1": top1}
    found |= {"top1_ci95": (top1 - 0.1, top1 + 0.1), "macs_mean": macs, "macs_std": 0.0, **changes}
    if choices is None:
        return found
    return {**found, "choices": choices, "macs_chosen_mean": 0.9 * macs}


ROWS = [
    row("cut:0.5", 1e6, 0.6),
    row("cut:1", 4e6, 0.8),
    row("pick:2", 1.5e6, 0.7, [0.75, 0.25, 0.0]),
    row("pick:3", 3.2e6, 0.85, [1 / 3, 0.0, 2 / 3]),
]
MACS = [np.full(6, 1e6), np.full(6, 4e6), np.linspace(1e6, 2e6, 6), np.linspace(1e6, 5e6, 6)]


def dataset():
    images = np.arange(6 * 16, dtype=np.uint8).reshape(6, 4, 4, 1)
    labels = np.array([0, 1, 0, 1, 0, 1], np.int32)[:, None]
    return Dataset("toy", images, labels, (2,), ("cat", "dog"))


def evaluation(keep=slice(None)):
    choice = [None, None, CHOICE[None] // 2, CHOICE[None]]
    answer = [dataset().labels[None, :, 0]] * 4
    of_rows = ([np.ones(6)] * 4, [None] * 4, MACS, choice, answer, [np.ones(6)] * 4)
    return Evaluation(ROWS[keep], *(part[keep] for part in of_rows))


def texts(figure):
    return {artist.get_text() for artist in figure.findobj(Text)}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_bars_stack_to_all_images_and_tell_the_shares_that_are_wide_enough():
    figure = draw_choices(ROWS, CANDIDATES, "toy")
    (axes,) = figure.axes
    bars = np.array([[bar.get_width() for bar in bars] for bars in axes.containers])
    starts = np.array([[bar.get_x() for bar in bars] for bars in axes.containers])

    np.testing.assert_allclose(bars.T, [[75, 25, 0], [100 / 3, 0, 200 / 3]])
    np.testing.assert_allclose(starts + bars, np.cumsum(bars, 0))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["pick:2", "pick:3"]
    assert {"75", "25", "33", "67"} <= texts(figure) and "0" not in {
        text.get_text() for text in axes.texts
    }
    assert legend(figure) == list(CANDIDATES)


def test_a_line_spans_what_most_images_cost_and_a_hollow_point_leaves_out_the_choosing():
    figure = draw_against_candidates(ROWS, MACS, "toy")
    (axes,) = figure.axes
    figure.draw_without_rendering()
    spans = axes.collections[0]
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]

    found = np.array(spans.get_segments())
    np.testing.assert_allclose(found[:, :, 0], [[1.05, 1.95], [1.2, 4.8]])
    np.testing.assert_allclose(found[:, :, 1], [[70, 70], [85, 85]])
    np.testing.assert_allclose(hollow[0].get_xdata(), [0.9 * 1.5, 0.9 * 3.2])
    shown, points = (t.transform((0, 70)) for t in (spans.get_transform(), axes.transData))
    assert axes.get_xlim()[1] > 4.8
    # Clear of the marker: half of its size, in points, and its edge.
    assert (points[1] - shown[1]) * 72 / figure.dpi > hollow[0].get_markersize() / 2 + 1
    assert legend(figure) == [
        "chosen for each image (line below: 90 % of the images)",
        "the same without what it takes to choose",
        "one point for all images",
    ]


def test_points_that_choose_and_candidates_have_their_names_beside_them():
    figure = draw_against_candidates(ROWS, MACS, "toy")

    assert [text.get_text() for text in figure.axes[0].texts] == [
        "pick:2",
        "pick:3",
        "cut:0.5",
        "cut:1",
    ]


def test_of_many_candidates_the_ends_and_some_between_have_their_names():
    many = [row(f"cut:{i},1", i * 1e6, i / 20) for i in range(1, 17)]
    macs = [np.full(6, one["macs_mean"]) for one in many]
    figure = draw_against_candidates([*many, ROWS[3]], [*macs, MACS[3]], "toy")

    names = [text.get_text() for text in figure.axes[0].texts]
    assert len(names) == 7 and {"1,1", "16,1"} <= set(names)


def test_points_that_choose_can_be_drawn_alone():
    figure = draw_against_candidates(ROWS[2:], MACS[2:], "toy")

    assert "one point for all images" not in legend(figure)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rows: draw_choices(rows, CANDIDATES, "toy"),
        lambda rows: draw_against_candidates(rows, MACS[:2], "toy"),
    ],
    ids=["choices", "costs"],
)
def test_where_no_image_chooses_there_is_nothing_to_draw(draw):
    with pytest.raises(UsageError, match="no image chooses"):
        draw(ROWS[:2])


def test_each_candidate_that_was_chosen_has_a_row_of_images_that_chose_it():
    answer = np.array([0, 0, 0, 1, 0, 1], np.int32)
    figure = draw_examples(dataset(), CHOICE, answer, CANDIDATES, "toy")
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]

    np.testing.assert_array_equal(shown, dataset().images[[0, 3, 1, 2, 4, 5], ..., 0])
    assert {"cut:0.5: 2 of 6 images (33.3 %)", "cut:1: 4 of 6 images (66.7 %)"} <= texts(figure)
    assert {"cat", "dog", "dog,\ntaken for cat"} <= texts(figure)
    assert not any("cut:0.75" in text for text in texts(figure))


def test_of_many_candidates_some_are_shown_and_this_is_said():
    labels, images = np.zeros((16, 1), np.int32), np.zeros((16, 4, 4, 3), np.uint8)
    data = Dataset("toy", images, labels, (1,), ("cat",))
    names = [f"cut:{i}" for i in range(16)]
    figure = draw_examples(data, np.arange(16, dtype=np.int32), labels[:, 0], names, "toy")

    assert any("6 of those chosen" in text for text in texts(figure))
    assert {"cut:0: 1 of 16 images (6.2 %)", "cut:15: 1 of 16 images (6.2 %)"} <= texts(figure)


def test_a_run_whose_images_choose_has_all_three_figures_of_its_last_point():
    figures = draw_run(evaluation(), dataset(), "net", candidates=CANDIDATES)

    assert list(figures) == ["accuracy_against_macs", "candidates_chosen", "images_of_candidates"]
    assert any(text.startswith("net, pick:3\n") for text in texts(figures["images_of_candidates"]))


def test_a_run_of_candidates_alone_is_drawn_as_any_other():
    figures = draw_run(evaluation(slice(0, 2)), dataset(), "net", candidates=CANDIDATES)

    assert list(figures) == ["accuracy_against_macs"]


def test_figures_are_written_with_the_same_bytes(tmp_path):
    drawn = [
        {
            name: save_figure(figure, tmp_path / f"{i}{name}").read_bytes()
            for name, figure in draw_run(
                evaluation(), dataset(), "net", candidates=CANDIDATES
            ).items()
        }
        for i in range(2)
    ]

    assert drawn[0] == drawn[1]
