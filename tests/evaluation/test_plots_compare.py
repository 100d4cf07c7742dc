"""Figures of several runs: what stands where, and that runs can be told apart."""

import itertools

import numpy as np
import pytest
from matplotlib.text import Text

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.figures import new_figure, save_figure, series_style, widen_top
from jax_elastic.evaluation.plots_compare import (
    draw_ranged_against_fixed,
    draw_runs_against_budget,
    draw_runs_against_macs,
    has_ranged_and_fixed,
)


def row(run, asked, top1=0.9, **changes):
    share = 1.0 if asked is None else asked
    return {
        "run": run,
        "subnet": "full",
        "n": 100,
        "asked": asked,
        "top1": top1,
        "top1_ci95": (top1 - 0.02, top1 + 0.02),
        "macs_mean": 2e6 * share,
        "macs_std": 0.1e6,
        "blocks_mean": None if asked is None else 10 * share,
        "blocks_total": None if asked is None else 10,
        **changes,
    }


RANGED = [row("ranged", asked) for asked in (0.2, 0.6, 1.0)]
FIXED = [row("fixed", 0.6, 0.92)]
PLAIN = [row("plain", None, 0.93)]
RANDOM = [row("random", s, draws=10, top1_draws_ci95=(0.89, 0.91)) for s in (0.2, 1.0)]
PRINTED = {"method": "M", "data": "toy", "asked": 0.6, "top1": 0.94, "source": "Paper, table 3"}
LABEL = "M (Paper, table 3)"
ROWS = [*RANGED, *FIXED, *PLAIN]


def texts(figure):
    return {artist.get_text() for artist in figure.findobj(Text)}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def curves(axes, marker):
    return [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == marker]


def flat(curve):
    return list(itertools.chain.from_iterable(curve))


DRAWN = {
    "macs": lambda: draw_runs_against_macs([*ROWS, *RANDOM], "toy", [PRINTED]),
    "budget": lambda: draw_runs_against_budget([*ROWS, *RANDOM], "toy", [PRINTED]),
    "fixed": lambda: draw_ranged_against_fixed(ROWS, "toy"),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_the_same_rows_give_the_same_bytes(draw, tmp_path):
    first = save_figure(draw(), tmp_path / "a.png").read_bytes()
    assert first == save_figure(draw(), tmp_path / "b.png").read_bytes()
    assert first[:4] == b"\x89PNG"


def test_seventy_series_differ_and_the_first_ten_also_without_colour():
    styles = [series_style(i) for i in range(70)]
    assert len(set(styles)) == 70
    assert len({style.marker for style in styles[:10]}) == 10


def test_every_run_is_drawn_at_its_macs_in_percent():
    figure = draw_runs_against_macs(ROWS, "toy")
    axes = figure.axes[0]
    assert axes.get_xlabel() == "mean MACs per image, M"
    assert axes.get_ylabel() == "top-1, % (bar: 95 % interval)"
    # 1e-9 is rounding in 100 * share.
    np.testing.assert_allclose(curves(axes, "o"), [[[0.4, 90], [1.2, 90], [2, 90]]], rtol=1e-9)
    np.testing.assert_allclose(curves(axes, "s"), [[[1.2, 92]]], rtol=1e-9)
    np.testing.assert_allclose(curves(axes, "^"), [[[2, 93]]], rtol=1e-9)
    assert legend(figure) == ["ranged", "fixed", "plain"]


def test_intervals_over_draws_are_named_with_their_number():
    assert "95 % of 10 draws" in legend(draw_runs_against_macs(RANDOM, "toy"))
    assert "95 % of 10 draws" not in legend(draw_runs_against_macs(RANGED, "toy"))


def test_a_published_row_is_hollow_and_names_its_table():
    printed = {**PRINTED, "macs_mean": 1.5e6}
    figure = draw_runs_against_macs(RANGED, "toy", [printed])
    (line,) = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    np.testing.assert_allclose(line.get_xydata(), [[1.5, 94]], rtol=1e-9)
    assert legend(figure) == ["ranged", LABEL]


def test_a_published_row_without_flops_has_no_place_on_an_axis_of_macs():
    assert legend(draw_runs_against_macs(RANGED, "toy", [PRINTED])) == ["ranged"]


def test_accuracy_blocks_and_flops_stand_above_each_other_over_one_axis_of_budgets():
    figure = draw_runs_against_budget([*RANGED, *FIXED], "toy")
    top1, blocks, flops = figure.axes
    assert top1.get_ylabel() == "top-1, %\n(bar: 95 % interval)"
    assert blocks.get_ylabel() == "open blocks, of 10\n(band: as asked)"
    assert flops.get_ylabel() == "FLOPs per image, M\n(2 per MAC)"
    assert flops.get_xlabel() == "asked budget S, share of the blocks"
    np.testing.assert_allclose(flat(curves(blocks, "o")), [[0.2, 2], [0.6, 6], [1, 10]])
    np.testing.assert_allclose(flat(curves(flops, "o")), [[0.2, 0.8], [0.6, 2.4], [1, 4]])
    # In the panel with intervals two runs stand at each side of S.
    np.testing.assert_allclose([c[0][0] for c in curves(top1, "s")], [0.6 + 0.03 / 4])


def test_a_run_without_budgets_is_a_level_line_and_has_no_blocks():
    figure = draw_runs_against_budget([*RANGED, *PLAIN], "toy")
    top1, blocks, flops = figure.axes
    np.testing.assert_allclose(flat(curves(top1, "s")), [[0.2, 93], [1, 93]])
    np.testing.assert_allclose(flat(curves(flops, "s")), [[0.2, 4], [1, 4]])
    assert curves(blocks, "s") == []


def test_a_published_row_stands_in_the_panels_whose_number_is_printed():
    printed = {**PRINTED, "blocks_mean": 5.0, "blocks_total": 10}
    figure = draw_runs_against_budget(RANGED, "toy", [printed])
    shown = [
        [line for line in axes.lines if line.get_markerfacecolor() == "white"]
        for axes in figure.axes
    ]
    assert [len(lines) for lines in shown] == [1, 1, 0]
    assert shown[1][0].get_xydata().tolist() == [[0.6, 5]]


def test_networks_of_different_depth_are_compared_by_the_share_of_their_blocks():
    deep = [row("deep", 0.6, blocks_mean=27, blocks_total=54)]
    figure = draw_runs_against_budget([*RANGED, *deep], "toy")
    assert figure.axes[1].get_ylabel().startswith("open blocks, % of all")
    assert flat(curves(figure.axes[1], "s")) == [[0.6, 50]]


def test_runs_that_ask_for_nothing_have_no_axis_of_budgets():
    with pytest.raises(UsageError, match="no run asks for a budget"):
        draw_runs_against_budget(PLAIN, "toy", [PRINTED])


def test_operating_points_of_one_run_share_a_line_only_if_they_are_one_network():
    several = [row("a", s, subnet=subnet) for subnet in ("full", "1:2") for s in (0.2, 0.6)]
    assert legend(draw_runs_against_macs(several, "toy")) == ["a, full", "a, 1:2"]


@pytest.mark.parametrize(("folders", "line"), [("ab", "-"), ("aa", "None")])
def test_combinations_are_joined_in_order_of_cost_if_each_is_a_network_of_its_own(folders, line):
    points = zip(folders, ("cut:1,1", "cut:1,.5"), (3e6, 1e6), strict=True)
    rows = [row("nas", None, subnet=s, macs_mean=m, workdir=w) for w, s, m in points]
    (drawn,) = [
        one for one in draw_runs_against_macs(rows, "toy").axes[0].lines if one.get_marker() == "o"
    ]
    assert drawn.get_xdata().tolist() == [1, 3]
    assert drawn.get_linestyle() == line


def test_what_images_choose_among_are_rings_apart_from_what_they_choose():
    points = (("cut:1,.5", 1e6), ("cut:1,1", 3e6))
    rows = [row("net", None, subnet=subnet, macs_mean=macs) for subnet, macs in points]
    rows += [{**one, "run": "chooser"} for one in rows]
    picks = {"pick:1": [1.0, 0.0], "pick:2": [0.5, 0.5]}
    rows += [row("chooser", None, subnet=s, choices=shares) for s, shares in picks.items()]
    figure = draw_runs_against_macs(rows, "toy")
    assert legend(figure) == ["net", "chooser", "chooser, one point for all images"]
    chosen, alike = (line for line in figure.axes[0].lines if line.get_marker() == "s")
    assert (chosen.get_linestyle(), alike.get_linestyle()) == ("-", "None")
    assert alike.get_xdata().tolist() == [1, 3] and alike.get_markerfacecolor() == "white"
    (own,) = (line for line in figure.axes[0].lines if line.get_marker() == "o")
    assert alike.get_zorder() < own.get_zorder() and alike.get_markersize() > own.get_markersize()


def test_ranged_and_fixed_are_named_and_points_of_one_budget_are_labelled():
    figure = draw_ranged_against_fixed([*ROWS, *RANDOM], "toy")
    assert legend(figure) == ["ranged (ranged)", "fixed (fixed)"]
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels == ["0.6", "0.6"]
    assert figure.axes[0].get_xlabel() == "mean MACs per image, M (bar: std over images)"


def test_the_std_of_the_cost_is_a_bar_to_both_sides():
    figure = draw_ranged_against_fixed(ROWS, "toy")
    (segment,) = figure.axes[0].collections[-1].get_segments()
    np.testing.assert_allclose(segment, [[1.1, 92], [1.3, 92]])


@pytest.mark.parametrize(
    ("rows", "both"),
    [(ROWS, True), (RANGED, False), (FIXED, False), (PLAIN, False), (RANDOM, False)],
)
def test_ranged_against_fixed_takes_runs_of_both_kinds(rows, both):
    assert has_ranged_and_fixed(rows) == both


def test_ranged_alone_is_refused():
    with pytest.raises(UsageError, match="several budgets and a run with one"):
        draw_ranged_against_fixed(RANGED, "toy")


@pytest.mark.parametrize(("top1", "told"), [(0.95, ", stretched scale"), (0.9, "")])
def test_an_axis_is_stretched_where_a_run_fails_beside_nearly_perfect_ones(top1, told):
    rows = [row("good", asked, top1) for asked in (0.2, 1.0)]
    failing = [row("failing", asked, 0.1) for asked in (0.2, 1.0)]
    figure = draw_runs_against_macs([*rows, *failing], "toy")
    assert figure.axes[0].get_ylabel() == f"top-1, % (bar: 95 % interval{told})"


def test_a_stretched_axis_shows_all_and_gives_the_best_more_room():
    figure, axes = new_figure(4.0, "toy")
    assert widen_top(axes, 10, 96)
    axes.plot([0, 1], [10, 96])
    figure.draw_without_rendering()
    places = axes.transData.transform([(0, y) for y in (10, 20, 86, 96)])[:, 1]
    assert axes.bbox.y0 < places[0] and places[3] < axes.bbox.y1
    assert places[3] - places[2] > 5 * (places[1] - places[0])
    assert {"20", "90"} <= texts(figure)


@pytest.mark.parametrize(("low", "high"), [(80, 97), (10, 94)], ids=["close", "far from 100"])
def test_other_accuracies_are_drawn_to_scale(low, high):
    assert not widen_top(new_figure(4.0, "toy")[1], low, high)
