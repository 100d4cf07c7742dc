"""Blocks of one run beside the gradients of another: means, matches, what is said and drawn."""

import numpy as np
import pytest

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.gradients import (
    beside_gradients,
    describe_gradients,
    falls,
    has_gradients,
    read_gradients,
    with_gradients,
)
from jax_elastic.evaluation.plots_gradients import by_blocks, draw_blocks_beside_gradients
from jax_elastic.evaluation.ranks import rank_correlation

STAGES = [["block1", "block2", "block3"], ["block4", "block5", "block6"]]
SEGMENTS = ("stem", *STAGES[0], *STAGES[1], "head")
MEANS = dict(zip(SEGMENTS, (9, 6, 5, 4, 5, 3, 3.5), strict=False))


def trained(steps, scale=1.0, names=SEGMENTS[:-1]):
    """A metric row over some steps."""
    told = {f"gradient/{name}": scale * MEANS[name] for name in names}
    return {"kind": "train", "steps": steps, "loss": 1.0, **told}


def gated(run="dropping", **changes):
    """A row of an evaluation; the last block always runs."""
    shares = dict(zip(SEGMENTS[1:6], (1, 1, 0.4, 0.6, 0), strict=True))
    return {
        **{"run": run, "subnet": "full", "asked": None, "n": 100, "blocks_total": 5},
        **{"blocks_open": shares, "blocks_stages": STAGES},
        **changes,
    }


PLAIN = read_gradients("plain", SEGMENTS, [trained(10)])
HALF = read_gradients("half", SEGMENTS, [trained(10, 2), {"kind": "train", "steps": 30}])
DEEPER = read_gradients("deeper", (*SEGMENTS[:-1], "block7", "head"), [trained(10)])
UNGATED = {"run": "plain", "subnet": "full", "asked": None, "blocks_total": None}


def test_gradients_are_means_over_the_steps_of_all_rows_that_have_some():
    validation = {"kind": "validation", "step": 3, "score": 0.5}
    rows = [trained(30, 1), validation, trained(10, 3), {"kind": "train", "steps": 5, "loss": 1.0}]
    found = read_gradients("plain", SEGMENTS, rows)
    assert found.means == pytest.approx({name: 1.5 * value for name, value in MEANS.items()})
    assert (found.steps, found.of) == (40, 45)
    assert [has_gradients(row) for row in rows] == [True, False, True, False]


def test_a_segment_that_some_phases_do_not_train_has_its_mean_over_the_others():
    rows = [trained(10, 1, ["stem"]), trained(30, 5)]
    found = read_gradients("plain", SEGMENTS, rows)
    assert (found.means["stem"], found.means["block1"]) == (4 * MEANS["stem"], 5 * MEANS["block1"])


def test_blocks_are_correlated_by_name_over_the_gated_ones():
    found = beside_gradients(gated(), PLAIN)
    expected = rank_correlation([6, 5, 4, 5, 3], [1, 1, 0.4, 0.6, 0])
    told = found["rank_correlation"], *found["rank_correlation_ci95"]
    assert told == (expected.value, expected.low, expected.high)
    within = rank_correlation([6, 5, 4, 5, 3], [1, 1, 0.4, 0.6, 0], [0, 0, 0, 1, 1])
    told = found["rank_correlation_within"], *found["rank_correlation_within_ci95"]
    assert told == (within.value, within.low, within.high)
    assert (found["run"], found["blocks"], found["steps"]) == ("plain", 5, 10)
    # Also of the block that always runs.
    assert found["gradient"] == {name: MEANS[name] for name in SEGMENTS[1:-1]}


def test_each_block_but_the_first_of_a_stage_falls_or_does_not():
    expected = {"block2": True, "block3": True, "block5": True, "block6": False}
    assert falls(MEANS, STAGES) == expected
    assert falls(dict.fromkeys(MEANS, 1.0), STAGES) == dict.fromkeys(expected, False)


def test_a_stage_falls_where_each_block_has_less_than_the_one_before():
    found = beside_gradients(gated(), PLAIN)
    assert (found["stages"], found["falling"], found["rises"]) == (2, 1, ["block6"])


def test_blocks_that_all_images_open_alike_have_no_order():
    same = gated(blocks_open=dict.fromkeys(SEGMENTS[1:6], 1.0))
    found = beside_gradients(same, PLAIN)
    assert found["rank_correlation"] is None is found["rank_correlation_ci95"]


@pytest.mark.parametrize(
    "gradients",
    [
        DEEPER,
        read_gradients("other", ("stem", "part", "head"), [trained(10, 1, ["stem"])]),
        read_gradients("part", SEGMENTS, [trained(10, 1, SEGMENTS[:4])]),
    ],
    ids=lambda gradients: gradients.run,
)
def test_a_run_without_gradients_of_the_same_blocks_stands_beside_nothing(gradients):
    assert beside_gradients(gated(), gradients) is None
    (row,) = with_gradients([gated()], [gradients])
    assert row["gradients"] == []


def test_rows_without_gates_are_left_as_they_are_but_for_an_empty_place():
    assert with_gradients([gated(), UNGATED], []) == [gated(), UNGATED]
    both = with_gradients([gated(), UNGATED], [PLAIN, DEEPER])
    assert [[one["run"] for one in row["gradients"]] for row in both] == [["plain"], []]


def test_every_run_with_gradients_is_described_beside_every_run_with_gates():
    old = gated("old")
    del old["blocks_open"]
    same = gated("same", asked=0.2, blocks_open=dict.fromkeys(SEGMENTS[1:6], 1.0))
    gradients = [PLAIN, HALF, DEEPER]
    lines = describe_gradients(with_gradients([gated(), same, old, UNGATED], gradients), gradients)
    # Products of ranks' deviations: 8.75 of 9.5, and within stages 6.25 of (7.625 * 37 / 6) ** .5.
    told = "rank correlation 0.92 [-0.06, 1.00] over 5 blocks, within stages 0.91 [-0.66, 1.00]"

    def of(run):
        return [
            f"gradients of {run}: fall from block to block in 1 of 2 stages; they do not at block6",
            f"dropping, full, beside gradients of {run}: {told}",
            f"same, full at budget 0.2, beside gradients of {run}: no rank correlation, for its 5 "
            "blocks have no order",
            f"gradients of {run}: not beside old, of whose blocks nothing was told; "
            "evaluate it again",
        ]

    assert lines == [
        *of("plain"),
        "gradients of half: of 10 of its 40 steps alone",
        *of("half"),
        "gradients of deeper: not beside dropping, whose blocks are others",
        "gradients of deeper: not beside same, whose blocks are others",
        "gradients of deeper: not beside old, of whose blocks nothing was told; evaluate it again",
        "intervals of rank correlations are over the blocks of one network; "
        "networks of other seeds can differ by more",
    ]


def test_where_blocks_have_no_order_nothing_is_said_of_intervals():
    same = gated(blocks_open=dict.fromkeys(SEGMENTS[1:6], 1.0))
    lines = describe_gradients(with_gradients([same], [PLAIN]), [PLAIN])
    assert not any("intervals" in line for line in lines)


def drawn(rows):
    """The figure's panels: of each line its name and points, without the gaps between stages."""
    figure = draw_blocks_beside_gradients(rows, "title")
    return figure, [
        {
            line.get_label(): [(x, y) for x, y in line.get_xydata() if np.isfinite(y)]
            for line in axes.lines
            if not line.get_label().startswith("_")
        }
        for axes in figure.axes
    ]


def test_the_picture_has_gradients_above_and_shares_below_block_by_block():
    rows = with_gradients([gated(), gated("other")], [PLAIN, HALF])
    _, (above, below) = drawn(rows)
    expected = list(enumerate((6, 5, 4, 5, 3, 3.5), 1))
    assert above == {
        "gradients of plain": expected,
        "gradients of half": [(x, 2 * y) for x, y in expected],
    }
    shares = list(enumerate((1, 1, 0.4, 0.6, 0), 1))
    assert below == {"dropping": shares, "other": shares}


def test_stages_end_lines_and_have_boundaries_and_names():
    rows = with_gradients([gated()], [PLAIN])
    figure, _ = drawn(rows)
    above, below = figure.axes
    assert [text.get_text() for text in above.texts] == ["stage 1", "stage 2"]
    for axes in (above, below):
        (boundary,) = [line for line in axes.lines if line.get_linestyle() == ":"]
        assert boundary.get_xdata()[0] == 3.5
    gaps = [x for x, y in above.lines[0].get_xydata() if not np.isfinite(y)]
    assert gaps == [3.5, 6.5]


def test_several_budgets_of_a_run_are_named():
    rows = with_gradients([gated(asked=0.2), gated(asked=0.6)], [PLAIN])
    _, (_, below) = drawn(rows)
    assert list(below) == ["dropping, full at budget 0.2", "dropping, full at budget 0.6"]


def test_networks_of_other_stages_have_pictures_of_their_own():
    deeper = gated("deep", blocks_stages=[STAGES[0], [*STAGES[1], "block7"]])
    with_seven = read_gradients("plain", DEEPER.segments, [{**trained(10), "gradient/block7": 1.0}])
    rows = with_gradients([gated(), deeper, gated("again"), UNGATED], [PLAIN, with_seven])
    found = by_blocks(rows)
    assert [[row["run"] for row in own] for own in found.values()] == [
        ["dropping", "again"],
        ["deep"],
    ]


def test_nothing_beside_gradients_is_refused():
    with pytest.raises(UsageError, match="no blocks beside gradients"):
        draw_blocks_beside_gradients([], "title")
