"""The picture of a search: all points, the front, the limit and what was chosen."""

import itertools

import pytest

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import GREY, save_figure
from jax_elastic.evaluation.plots_search import draw_search

CHOICES = (0.5, 0.75, 1.0)


def row(value, macs, top1, ms=None):
    return {
        "subnet": "cut:" + ",".join(f"{v:g}" for v in value),
        "asked": None,
        "top1": top1,
        "top1_ci95": (top1 - 0.02, top1 + 0.02),
        "macs": macs * 1e6,
        "params": 1000,
        "ms": ms,
    }


# The first number alone is worth something, so of each of its values the cheapest second is best.
ROWS = [
    row((a, b), 4 * a + 2 * b, 0.5 + 0.2 * a, ms=a + b)
    for a, b in itertools.product(CHOICES, CHOICES)
]
BEST = [ROWS[0], ROWS[3], ROWS[6]]


def test_all_points_are_small_the_front_is_joined_and_the_choice_is_a_named_star():
    figure = draw_search(ROWS, BEST[1], "macs", 4.5e6, "toy")
    (axes,) = figure.axes
    cloud, best, limit, star = axes.lines
    assert cloud.get_linestyle() == "None" and len(cloud.get_xdata()) == len(ROWS)
    assert list(best.get_xdata()) == pytest.approx([one["macs"] / 1e6 for one in BEST])
    assert best.get_linestyle() == "-"
    assert list(limit.get_xdata()) == pytest.approx([4.5, 4.5])
    assert (star.get_marker(), *star.get_xdata()) == ("*", pytest.approx(4.0))
    assert axes.get_xlabel() == "MACs per image, M"
    assert [text.get_text() for text in axes.texts] == ["limit 4.5 M MACs"]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["Pareto front (small: the other points)", "chosen: cut:0.75,0.5"]


def test_points_beyond_a_limit_that_the_axis_does_not_show_are_grey_and_on_no_front():
    rows = [*ROWS[:-1], {**ROWS[-1], "params": 5000, "top1": 0.99}]
    figure = draw_search(rows, None, "macs", 9e6, "toy", {"macs": 9e6, "params": 4000})
    beyond, cloud, best, _ = figure.axes[0].lines
    assert beyond.get_color() == GREY and list(beyond.get_ydata()) == pytest.approx([99])
    assert len(cloud.get_xdata()) == len(rows) - 1 and max(best.get_ydata()) < 99
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[1:] == ["beyond the limit of parameters"]


def test_along_a_time_points_without_one_are_left_out():
    untimed = row((1, 1), 9, 0.9)
    (axes,) = draw_search([*ROWS, untimed], None, "ms", None, "toy").axes
    assert len(axes.lines[0].get_xdata()) == len(ROWS)
    assert axes.get_xlabel() == "ms of a call" and not axes.texts


def test_a_single_point_can_be_drawn():
    figure = draw_search(ROWS[:1], ROWS[0], "params", None, "toy")
    assert figure.axes[0].get_xlabel() == "parameters, K"


def test_a_cost_that_no_row_has_is_refused():
    with pytest.raises(UsageError, match="no row of the table has ms; measure it by --ms"):
        draw_search([row((1, 1), 9, 0.9)], None, "ms", None, "toy")


def test_the_same_rows_give_the_same_bytes(tmp_path):
    first, again = (
        save_figure(draw_search(ROWS, BEST[1], "macs", 4.5e6, "t"), tmp_path / name).read_bytes()
        for name in ("a.png", "b.png")
    )
    assert first == again and first[:4] == b"\x89PNG"
