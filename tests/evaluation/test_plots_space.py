"""Figures of networks whose points are combinations: fronts, and what each choice is worth."""

import itertools

import numpy as np
import pytest

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.evaluate import Evaluation
from jax_elastic.evaluation.figures import save_figure
from jax_elastic.evaluation.plots_run import draw_run
from jax_elastic.evaluation.plots_space import (
    draw_fronts,
    draw_preferences,
    has_front,
    is_combination,
)

CHOICES = (0.5, 0.75, 1.0)


def row(value, macs, top1, run="net", **changes):
    return {
        "run": run,
        "subnet": "cut:" + ",".join(f"{v:g}" for v in value),
        "n": 100,
        "asked": None,
        "achieved": None,
        "top1": top1,
        "top1_ci95": (top1 - 0.02, top1 + 0.02),
        "macs_mean": macs * 1e6,
        "macs_std": 0.0,
        **changes,
    }


def grid(run="net", worth=(0.2, 0.04)):
    """Nine points; a unit of the first number costs 4 and is worth more than one of the second."""
    return [
        row((a, b), 4 * a + 2 * b, 0.5 + worth[0] * a + worth[1] * b, run)
        for a, b in itertools.product(CHOICES, CHOICES)
    ]


GRID = grid()
ENDS = [GRID[0], GRID[-1]]
PLAIN = row((), 5, 0.8, "plain", subnet="full")
# The first number matters alone, so of each of its values the cheapest second one is best.
BEST = ["cut:0.5,0.5", "cut:0.75,0.5", "cut:1,0.5"]


def lines(axes, marker):
    return [line for line in axes.lines if line.get_marker() == marker]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("draw", [draw_fronts, draw_preferences])
def test_the_same_rows_give_the_same_bytes(draw, tmp_path):
    first = save_figure(draw(GRID, "t"), tmp_path / "a.png").read_bytes()
    assert first == save_figure(draw(GRID, "t"), tmp_path / "b.png").read_bytes()
    assert first[:4] == b"\x89PNG"


def test_all_points_are_drawn_small_and_those_of_the_front_joined_in_order_of_cost():
    rows = grid(worth=(0.2, 0))
    figure = draw_fronts(rows[::-1], "toy")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "MACs per image, M"
    assert axes.get_ylabel() == "top-1, %\n(line: Pareto front,\nbar: 95 % interval)"
    cloud, front = lines(axes, "o")
    assert len(cloud.get_xdata()) == 9 and cloud.get_linestyle() == "None"
    best = [row for row in rows if row["subnet"] in BEST]
    expected = [[row["macs_mean"] / 1e6, 100 * row["top1"]] for row in best]
    np.testing.assert_allclose(front.get_xydata(), expected)
    assert front.get_linestyle() == "-"
    assert front.get_markersize() > cloud.get_markersize()
    assert [text.get_text() for text in axes.texts] == ["0.5,0.5", "1,0.5"]


def test_runs_stand_beside_each_other_each_with_its_own_front():
    rows = [*GRID, *grid("collapses", worth=(-0.2, -0.2)), PLAIN]
    assert has_front(rows)
    figure = draw_fronts(rows, "toy")
    (axes,) = figure.axes
    assert legend(figure) == ["net", "collapses", "plain"]
    sizes = {marker: [len(line.get_xdata()) for line in lines(axes, marker)] for marker in "os^"}
    assert sizes == {"o": [9, 7], "s": [9, 1], "^": [1]}  # what falls has one best point


@pytest.mark.parametrize(
    "rows",
    [
        ENDS,
        [row((k,), k, 0.9) for k in (1, 2, 3)],
        [row((1, 0), k, 0.9, asked=0.5) for k in (1, 2, 3)],
        [row((1, 0), k, 0.9, achieved=0.5) for k in (1, 2, 3)],
    ],
    ids=["two points", "one number", "budgets", "implied budgets"],
)
def test_fronts_take_more_than_two_combinations(rows):
    assert not has_front(rows)
    with pytest.raises(UsageError, match=r"more than two combinations .*--sample=60"):
        draw_fronts(rows, "toy")


def test_each_choice_has_the_mean_of_its_points_and_its_share_of_the_front():
    rows = grid(worth=(0.2, 0))
    figure = draw_preferences(rows, "toy")
    above, below = figure.axes
    assert legend(figure) == ["cut:x,_", "cut:_,x"]
    (first,), (second,) = lines(above, "o"), lines(above, "s")
    np.testing.assert_allclose(first.get_ydata(), [60, 65, 70])
    np.testing.assert_allclose(second.get_ydata(), [65] * 3)
    (first,), (second,) = lines(below, "o"), lines(below, "s")
    np.testing.assert_allclose(first.get_ydata(), [100 / 3] * 3)
    np.testing.assert_allclose(second.get_ydata(), [100, 0, 0])
    expected = [line for line in below.lines if line.get_linestyle() == ":"]
    np.testing.assert_allclose([line.get_ydata() for line in expected], [[100 / 3] * 3] * 2)
    assert below.get_xlabel().startswith("x, the number at one place of cut")
    assert below.get_ylabel().startswith("share of the 3 Pareto points, %\n(grey: of all 9)")


def test_places_stand_side_by_side_around_each_choice():
    above, below = draw_preferences(GRID, "toy").axes
    for axes in (above, below):
        (first,), (second,) = lines(axes, "o"), lines(axes, "s")
        np.testing.assert_allclose(first.get_xdata() + second.get_xdata(), 2 * np.array(CHOICES))
        np.testing.assert_allclose(second.get_xdata() - first.get_xdata(), 0.1 * 0.25)
    np.testing.assert_allclose(below.get_xticks(), CHOICES)


def test_the_interval_of_a_choice_is_over_its_points():
    above, _ = draw_preferences(grid(worth=(0.2, 0)), "toy").axes
    exact, spread = (bars.get_segments() for bars in above.collections)
    np.testing.assert_allclose(exact[0][:, 1], [60] * 2, atol=1e-6)
    # 60, 65 and 70 %: their std is 5, and t of two degrees of freedom is 4.303.
    np.testing.assert_allclose(spread[0][:, 1], [65 - 12.42, 65 + 12.42], atol=0.01)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (ENDS, "only one point has 0.5 as number 1 of cut; two or more of each choice"),
        ([GRID[0]] * 2, "all operating points are the same"),
        ([PLAIN, PLAIN], "combinations of choices"),
        ([*GRID, row((1, 1, 1), 1, 0.9)], "combinations of choices"),
    ],
    ids=["ends", "one point", "none", "two spaces"],
)
def test_what_choices_are_worth_takes_two_points_of_each(rows, told):
    with pytest.raises(UsageError, match=told):
        draw_preferences(rows, "toy")


def evaluation(rows):
    one, none = [np.ones(1)] * len(rows), [None] * len(rows)
    return Evaluation(rows, one, none, one, none, none, one)


@pytest.mark.parametrize("rows", [GRID, ENDS], ids=["grid", "ends"])
def test_an_evaluation_of_combinations_draws_what_it_has_enough_points_for(rows):
    rows = [{key: value for key, value in one.items() if key != "run"} for one in rows]
    assert all(map(is_combination, rows))
    figures = draw_run(evaluation(rows), None, "toy")
    assert set(figures) == {"accuracy_against_macs", "choices"}
    if len(rows) == len(GRID):
        assert len(figures["choices"].axes) == 2
        assert "label" not in figures["accuracy_against_macs"].axes[0].get_xlabel()
    else:
        assert "for example --sample=60" in figures["choices"]


@pytest.mark.parametrize(("size", "advised"), [(9, 9), (60, 60), (1296, 60)])
def test_no_more_points_are_advised_than_there_are(size, advised):
    rows = [{key: value for key, value in one.items() if key != "run"} for one in ENDS]
    figures = draw_run(evaluation(rows), None, "toy", size)
    assert figures["choices"].endswith(f"for example --sample={advised}")


def test_of_a_point_that_was_asked_for_alone_nothing_is_missing():
    (*_, one) = ({key: value for key, value in row.items() if key != "run"} for row in GRID)

    assert set(draw_run(evaluation([one]), None, "toy")) == {"accuracy_against_macs"}
