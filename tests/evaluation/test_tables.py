"""Tables for the terminal: the exact text."""

import pytest

from jax_elastic.evaluation.tables import (
    Column,
    describe_choices,
    describe_shares,
    format_count,
    format_share,
    format_table,
)

ROWS = [
    {
        "subnet": "full",
        "asked": 0.6,
        "achieved": 0.593,
        "tracking_error": 0.007,
        "reached": True,
        "top1": 0.972,
        "top1_ci95": (0.961, 0.98),
        "blocks_mean": 32.02,
        "blocks_std": 4.71,
        "blocks_p99": 43.0,
        "macs_mean": 68_862_592.0,
        "macs_std": 1_250_000.0,
    },
    {
        "subnet": "width:3",
        "asked": None,
        "top1": 1.0,
        "top1_ci95": (0.99, 1.0),
        "macs_mean": 253e6,
        "macs_std": 0.0,
    },
]


def test_a_budget_table_reads_as_expected():
    # Two spaces between columns; the second half of each line holds the blocks and MACs.
    assert format_table(ROWS).splitlines() == [
        left + right
        for left, right in (
            (
                "subnet    asked  achieved  error  reached    top-1  95 % interval",
                "  blocks  std   p99     MACs  MACs std",
            ),
            (
                "full     60.0 %    59.3 %  0.7 %      yes   97.2 %   [96.1, 98.0]",
                "    32.0  4.7  43.0   68.9 M    1.25 M",
            ),
            (
                "width:3       -         -      -        -  100.0 %  [99.0, 100.0]",
                "       -    -     -  253.0 M         0",
            ),
        )
    ]


def test_columns_that_no_row_has_are_left_out():
    heading = format_table([{"subnet": "width:1", "macs_mean": 1e6}]).splitlines()[0]
    assert heading.split() == ["subnet", "MACs"]


def test_random_draws_and_weighted_blocks_have_columns_of_their_own():
    row = {"subnet": "full", "draws": 10, "top1_draws_ci95": (0.78, 0.8), "macs_std": 2e3}
    weighted = {"subnet": "full", "gate_mean": 0.61234, "gate_std": 0.25}
    assert format_table([row, weighted]).splitlines() == [
        "subnet  draws  95 % of draws  MACs std  gate mean    std",
        "full       10   [78.0, 80.0]    2.00 K          -      -",
        "full        -              -         -      0.612  0.250",
    ]


def test_a_spread_of_nothing_has_no_column():
    rows = [{"subnet": f"width:{k}", "macs_mean": 1e6, "macs_std": 0.0} for k in (1, 2)]
    assert format_table(rows).splitlines()[0].split() == ["subnet", "MACs"]


def test_choices_are_told_in_percent_with_the_names_of_the_candidates_below():
    chosen = {"subnet": "adapt:3", "choices": [0.625, 0.375, 0], "macs_mean": 3e6}
    rows = [{**chosen, "macs_chosen_mean": 2e6}, {"subnet": "adapt:1", "macs_mean": 1e6}]
    assert format_table(rows).splitlines() == [
        "subnet     MACs  of chosen  choices",
        "adapt:3  3.00 M     2.00 M  62 38 0",
        "adapt:1  1.00 M          -        -",
    ]
    names, cost = describe_choices(rows, ["small", "middle", "large"])
    assert names.endswith("1: small  2: middle  3: large")
    assert cost.startswith("of chosen")
    assert describe_choices(rows[1:], ["small"]) == []


def of_share(share, gates):
    return {"subnet": "full", "macs_share": share, "macs_share_without_gates": share - gates}


def test_the_share_of_the_macs_is_one_column_whatever_the_gates_cost():
    heading, line = format_table([of_share(0.634, 0.013)]).splitlines()
    assert (heading.split(), line.split()) == (["subnet", "nFLOPs"], ["full", "63.4", "%"])


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([{"subnet": "full"}], []),
        ([of_share(0.634, 0.0004), of_share(0.8, 0.0004)], []),
        ([of_share(0.634, 0.013)], ["nFLOPs: 63.4 % with what decides, 62.1 % without"]),
        (
            [of_share(0.201, 0.002), {"subnet": "plain"}, of_share(0.928, 0.002)],
            ["nFLOPs: 20.1 % to 92.8 % with what decides, 19.9 % to 92.6 % without"],
        ),
    ],
    ids=["no gates", "cheap gates", "one row", "several rows"],
)
def test_the_share_without_gates_is_told_below_where_they_make_a_difference(rows, told):
    assert describe_shares(rows) == told


def test_label_levels_have_a_column_beside_the_accuracy():
    row = {"subnet": "width:1", "level": 0, "level_name": "class", "top1": 0.5}
    coarse = {**row, "level": 1, "level_name": "superclass", "top1": 0.75}
    assert format_table([row, coarse]).splitlines() == [
        "subnet   level        top-1",
        "width:1  class       50.0 %",
        "width:1  superclass  75.0 %",
    ]


def test_own_columns_are_taken_as_given():
    columns = (Column("form", "form", left=True), Column("ratio", "time / dense", "{:.2f}".format))
    assert format_table([{"form": "masked", "ratio": 1.016}, {"form": "dense"}], columns) == (
        "form    time / dense\nmasked          1.02\ndense              -"
    )


def test_a_table_without_rows_is_its_heading():
    assert format_table([]).startswith("subnet  batch  asked  achieved")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.6, "1.00 K"),
        (1_000, "1.00 K"),
        (999_949, "999.9 K"),
        (9_994, "9.99 K"),
        (9_995, "10.0 K"),
        (999_950, "1.00 M"),
        (68_862_592, "68.9 M"),
        (4.1e9, "4.10 G"),
        (2.5e12, "2.50 T"),
        (-1_500, "-1.50 K"),
    ],
)
def test_a_count_has_a_short_text_with_its_unit(count, text):
    assert format_count(count) == text


def test_shares_are_in_percent():
    assert format_share(0.972) == "97.2 %"
