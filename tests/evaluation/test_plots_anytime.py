"""Figures of networks that answer at several costs: what stands where, and what is joined."""

from pathlib import Path

import numpy as np
import pytest

from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.backbones.shallow import ShallowResNeXt
from jax_elastic.elastic.anytime.exits import Exits
from jax_elastic.elastic.anytime.iresnext import IResNeXt
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.compare import describe_published, read_published
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.figures import save_figure
from jax_elastic.evaluation.plots_anytime import (
    draw_branch_norms,
    draw_error_against_macs,
    draw_levels,
    has_curves,
    has_levels,
)
from jax_elastic.evaluation.plots_compare import draw_runs_against_macs
from jax_elastic.subnet import Subnet

ANYTIME = Path(__file__).resolve().parents[2] / "docs" / "published" / "anytime.json"


def row(run, subnet, macs, top1, **changes):
    return {
        "run": run,
        "subnet": subnet,
        "n": 100,
        "asked": None,
        "top1": top1,
        "top1_ci95": (top1 - 0.02, top1 + 0.01),
        "macs_mean": macs * 1e6,
        "macs_std": 0.0,
        **changes,
    }


# Not in order of their cost: a curve is.
NESTED = [row("I", f"width:{k}", 2 * k, 0.87 + 0.02 * k) for k in (3, 1, 2)]
PLAIN = [row("plain", "full", 5, 0.93)]
THIN = [row("thin", "full", macs, 0.86 + 0.01 * macs) for macs in (2, 4)]
BUDGETS = [row("gated", "full", macs, 0.9, asked=macs / 10) for macs in (2, 4)]
PRINTED = {"method": "M", "data": "toy", "top1": 0.9, "source": "Paper, text"}


def lines(axes, marker):
    return [line for line in axes.lines if line.get_marker() == marker]


def points(axes, marker):
    return [line.get_xydata() for line in lines(axes, marker)]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def levels(subnets=("width:1", "width:2"), **changes):
    """Two levels, the coarser always 5 percent better."""
    return [
        row("", subnet, 2, 0.8 + 0.05 * level, level=level, level_name=name, **changes)
        for subnet in subnets
        for level, name in enumerate(("class", "kind"))
    ]


NORMS = [
    {"run": run, "block": 5, "branch": c, "l1": l1}
    for run, norms in {"I": (4.0, 2.0, 1.0), "plain": (2.0, 2.5)}.items()
    for c, l1 in enumerate(norms, 1)
]


@pytest.mark.parametrize(
    "draw",
    [
        lambda: draw_error_against_macs([*NESTED, *PLAIN], "t", [PRINTED]),
        lambda: draw_levels(levels(), "t"),
        lambda: draw_branch_norms(NORMS, "t"),
    ],
    ids=["error", "levels", "branches"],
)
def test_the_same_rows_give_the_same_bytes(draw, tmp_path):
    first = save_figure(draw(), tmp_path / "a.png").read_bytes()
    assert first == save_figure(draw(), tmp_path / "b.png").read_bytes()
    assert first[:4] == b"\x89PNG"


def test_the_points_of_a_run_are_one_curve_of_errors_by_macs():
    figure = draw_error_against_macs([*NESTED, *PLAIN, *THIN], "toy")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "mean MACs per image, M"
    assert axes.get_ylabel() == "top-1 error, % (bar: 95 % interval)"
    assert legend(figure) == ["I", "plain", "thin"]
    # 1e-9 is rounding in 100 (1 - share).
    np.testing.assert_allclose(points(axes, "o"), [[[2, 11], [4, 9], [6, 7]]], rtol=1e-9)
    np.testing.assert_allclose(points(axes, "s"), [[[5, 7]]], rtol=1e-9)
    np.testing.assert_allclose(points(axes, "^"), [[[2, 12], [4, 10]]], rtol=1e-9)
    styles = [line.get_linestyle() for marker in "os^" for line in lines(axes, marker)]
    assert styles == ["-", "None", "-"]


def test_the_interval_of_an_error_is_that_of_the_accuracy_upside_down():
    figure = draw_error_against_macs(PLAIN, "toy")
    (bar,) = figure.axes[0].collections
    np.testing.assert_allclose(bar.get_segments(), [[[5, 6], [5, 9]]], rtol=1e-9)


def test_an_axis_of_errors_is_logarithmic_where_a_run_fails_beside_the_others():
    figure = draw_error_against_macs([*NESTED, row("shared", "full", 5, 0.3)], "toy")
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "top-1 error, % (bar: 95 % interval, log scale)"
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    ticks = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    assert low < 6 and high > 72
    assert [label.get_text() for y, label in ticks if low <= y <= high] == ["5", "10", "20", "50"]


def test_where_nothing_is_told_wrong_the_axis_stays_linear():
    rows = [row("a", "full", 1, 1.0, top1_ci95=(0.96, 1.0)), row("b", "full", 2, 0.3)]
    assert draw_error_against_macs(rows, "toy").axes[0].get_yscale() == "linear"


def test_what_a_paper_prints_is_hollow_and_not_joined():
    printed = [{**PRINTED, "macs_mean": 1e6}, {**PRINTED, "macs_mean": 3e6, "top1": 0.95}]
    figure = draw_error_against_macs(NESTED, "toy", printed)
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    (line,) = hollow
    np.testing.assert_allclose(line.get_xydata(), [[1, 10], [3, 5]], rtol=1e-9)
    assert line.get_linestyle() == "None"
    assert legend(figure) == ["I", "M (Paper, text)"]


def test_a_printed_error_of_unknown_cost_is_a_level_line():
    figure = draw_error_against_macs(NESTED, "toy", [PRINTED])
    (line,) = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    np.testing.assert_allclose(line.get_xydata(), [[2, 10], [6, 10]], rtol=1e-9)
    assert legend(figure) == ["I", "M (Paper, text)"]


def test_several_printed_errors_of_unknown_cost_have_no_place():
    several = [PRINTED, {**PRINTED, "top1": 0.8}]
    assert legend(draw_error_against_macs(NESTED, "toy", several)) == ["I"]


@pytest.mark.parametrize(
    ("rows", "curves"),
    [
        (NESTED, True),
        ([*PLAIN, *THIN], True),
        (PLAIN, False),
        (NESTED[:1], False),
        (BUDGETS, False),
        ([row("r", f"resolution:1,0.{k}", k, 0.9) for k in (1, 2)], False),
        ([row("r", "full", 1, 0.9), row("r", "blocks:1,0", 2, 0.9)], False),
    ],
    ids=["nested", "one name", "one network", "one point", "budgets", "two numbers", "two axes"],
)
def test_only_points_along_one_axis_make_a_curve(rows, curves):
    assert has_curves(rows) == curves


@pytest.mark.parametrize(("rows", "style"), [(NESTED, "-"), (PLAIN, "None"), (BUDGETS, "-")])
def test_accuracies_of_several_runs_are_joined_like_errors(rows, style):
    (line,) = lines(draw_runs_against_macs(rows, "toy").axes[0], "o")
    assert line.get_linestyle() == style


def test_each_label_level_is_a_line_over_the_operating_points():
    figure = draw_levels(levels(("width:3", "width:1")), "toy")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "operating point, width"
    assert axes.get_ylabel() == "top-1, % (bar: 95 % interval)"
    assert legend(figure) == ["class", "kind"]
    np.testing.assert_allclose(points(axes, "o"), [[[1, 80], [3, 80]]], rtol=1e-9)
    np.testing.assert_allclose(points(axes, "s"), [[[1, 85], [3, 85]]], rtol=1e-9)
    assert {line.get_linestyle() for line in (*lines(axes, "o"), *lines(axes, "s"))} == {"-"}
    bars = [bar.get_segments() for bar in axes.collections]
    np.testing.assert_allclose(bars[1], [[[1, 83], [1, 86]], [[3, 83], [3, 86]]], rtol=1e-9)


@pytest.mark.parametrize(
    "rows",
    [
        NESTED,
        levels(("full",)),
        levels(asked=0.5),
        levels(("resolution:1,1", "resolution:1,0.5")),
        levels(("full", "capacity:0.5")),
    ],
    ids=["one level", "one point", "budgets", "two numbers", "two axes"],
)
def test_levels_are_not_drawn_where_they_make_no_lines(rows):
    assert not has_levels(rows)
    with pytest.raises(UsageError, match="several label levels at several points"):
        draw_levels(rows, "toy")


def test_each_network_is_a_line_over_its_branches():
    figure = draw_branch_norms(NORMS, "toy")
    (axes,) = figure.axes
    assert legend(figure) == ["I, block 5", "plain, block 5"]
    assert points(axes, "o")[0].tolist() == [[1, 4], [2, 2], [3, 1]]
    assert points(axes, "s")[0].tolist() == [[1, 2], [2, 2.5]]
    assert axes.get_ylim()[0] == 0
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("branch", "L1 norm of its part of conv3")


def test_norms_need_a_network_with_branches():
    with pytest.raises(UsageError, match="no network with branches"):
        draw_branch_norms([], "toy")


NETWORK = ResNeXt((3, 3, 3), 64, 8, 4)
COSTS = {
    "ResNeXt-29, k = 1 of 8": (IResNeXt(NETWORK, 8), "width:1"),
    "ResNeXt-29, k = 8 of 8": (IResNeXt(NETWORK, 8), "width:8"),
    "ResNeXt-29, exit after block 2": (Exits(ShallowResNeXt(NETWORK)), "depth:1"),
}


@pytest.mark.parametrize(("name", "case"), COSTS.items(), ids=COSTS)
def test_the_macs_of_printed_errors_are_those_that_the_counter_finds(name, case):
    network, subnet = case
    printed = {row["macs"] for row in read_published(ANYTIME) if row.get("network") == name}
    assert printed == {CostModel(network, (32, 32, 3)).cost(Subnet.parse(subnet)).full}


def test_no_method_has_the_comma_that_parts_methods_on_the_command_line():
    assert [row for row in read_published(ANYTIME) if "," in row["method"]] == []


def test_every_printed_error_with_macs_names_the_network_that_was_counted():
    assert {row["network"] for row in read_published(ANYTIME) if "macs" in row} == set(COSTS)


@pytest.mark.parametrize(
    ("data", "picture", "told"),
    [
        ("cifar10", "error_against_macs", "MACs by our counter: I-ResNeXt-29, I-ResNeXt-29 with"),
        ("cifar10", "runs_against_macs", "MACs by our counter: I-ResNeXt-29, I-ResNeXt-29 with"),
        ("cifar100", "error_against_macs", "no FLOPs are printed, so a level line: NestedNet"),
        ("cifar100", "runs_against_macs", "nothing published; no FLOPs are printed of NestedNet"),
    ],
)
def test_what_is_not_as_printed_is_said_of_each_picture(data, picture, told):
    line, *_ = describe_published(read_published(ANYTIME), data, ANYTIME, [picture])
    assert line.startswith(f"{picture}: ")
    assert told in line


def test_the_methods_that_are_told_of_errors_are_those_that_a_legend_names():
    rows = read_published(ANYTIME)
    figure = draw_error_against_macs(NESTED, "toy", rows)
    rows = [{**row, "data": "toy"} for row in rows]
    line, *_ = describe_published(rows, "toy", ANYTIME, ["error_against_macs"])
    assert [name for name in legend(figure)[1:] if name.split(" (")[0] not in line] == []
    assert len(legend(figure)) == 1 + len({row["method"] for row in rows})
