"""Joining the rows of runs, and what is read of papers."""

from pathlib import Path

import pytest

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.plain import Plain
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.compare import describe_published, join_runs, read_published
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.plots_compare import draw_runs_against_budget, draw_runs_against_macs
from jax_elastic.evaluation.rows import write_json
from jax_elastic.subnet import FULL

PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "published"
URNET = PUBLISHED / "urnet.json"
SGAD = PUBLISHED / "sgad.json"
RESIZABLE = PUBLISHED / "resizable.json"
ROW = {
    "subnet": "full",
    "data": "digits",
    "split": "test",
    "n": 359,
    "top1": 0.9,
    "top1_ci95": [0.86, 0.93],
    "macs_mean": 1e6,
    "asked": 0.6,
}


def test_each_row_names_its_run_and_has_two_flops_a_mac():
    rows = join_runs({"a": [ROW], "b": [ROW, {**ROW, "asked": None}]})
    assert [row["run"] for row in rows] == ["a", "b", "b"]
    assert {row["flops_mean"] for row in rows} == {2e6}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data", "cifar10", r"data set: digits \(a\), cifar10 \(b\); .* the same images"),
        ("split", "train", r"split: test \(a\), train \(b\)"),
        ("n", 10, r"number of images: 359 \(a\), 10 \(b\)"),
    ],
)
def test_runs_that_saw_different_images_are_not_joined(key, value, message):
    with pytest.raises(UsageError, match=message):
        join_runs({"a": [ROW], "b": [{**ROW, key: value}]})


def test_rows_without_what_a_comparison_needs_are_refused():
    with pytest.raises(UsageError, match="run a has rows without top1_ci95; evaluate it again"):
        join_runs({"a": [{key: ROW[key] for key in ROW if key != "top1_ci95"}]})


def test_a_run_without_rows_is_refused():
    with pytest.raises(UsageError, match="run b has no rows"):
        join_runs({"a": [ROW], "b": []})


@pytest.mark.parametrize(
    ("data", "asked", "expected"),
    [
        # URNet, table 1.
        ("cifar10", 0.2, (0.922, 18.08, 54, None)),
        ("cifar100", 1.0, (0.728, 49.41, 54, None)),
        # Table 2 prints 1.30e10 FLOPs, which are 0.65e10 MACs.
        ("imagenet2012", 0.8, (0.764, 26.94, 33, 0.65e10)),
    ],
)
def test_the_papers_figures_are_those_that_its_tables_print(data, asked, expected):
    rows = [row for row in read_published(URNET, ["URNet"]) if row["data"] == data]
    (row,) = [row for row in rows if row["asked"] == asked]
    keys = ("top1", "blocks_mean", "blocks_total", "macs_mean")
    assert len(rows) == 5
    assert tuple(row.get(key) for key in keys) == expected


def test_every_published_row_names_its_table():
    rows = read_published(URNET)
    assert {row["source"] for row in rows} == {"URNet, table 1", "URNet, table 2"}
    # Table 1: seven methods, two data sets, five budgets. Table 2: four ResNets, five budgets.
    assert len(rows) == 7 * 2 * 5 + 4 + 5


@pytest.mark.parametrize(
    ("source", "method", "points"),
    [
        (1, "ResNet-50 individual", {4.1: 0.764, 2.8: 0.754, 2.0: 0.742, 1.1: 0.716}),
        (1, "ResNet-50 RS", {4.1: 0.771, 2.8: 0.766, 2.0: 0.752, 1.1: 0.723}),
        (1, "MobileNetV1 RS", {0.569: 0.720, 0.462: 0.713, 0.391: 0.707, 0.291: 0.695}),
        (1, "ShuffleNetV2 RS", {0.299: 0.733, 0.251: 0.722, 0.199: 0.709, 0.147: 0.698}),
        (4, "ResNet-50 RS-NAS", {3.5: 0.778, 2.8: 0.774, 2.3: 0.768, 2.0: 0.765, 1.1: 0.728}),
        (4, "ResNet-50 ThiNet", {2.9: 0.725, 2.1: 0.725, 1.2: 0.699}),
        (4, "MobileNetV1 AMC", {0.285: 0.705}),
    ],
)
def test_printed_macs_are_taken_as_macs(source, method, points):
    rows = read_published(RESIZABLE, [method])
    rows = [row for row in rows if row["source"].endswith(f"table {source}")]
    assert {row["macs_mean"] / 1e9: row["top1"] for row in rows} == points


def test_what_a_paper_prints_of_macs_goes_before_what_the_counter_says():
    rows = read_published(RESIZABLE, ["ResNet-50 RS-Aug", "ResNet-50"])
    found = {row["source"][-1]: row["macs_mean"] for row in rows}
    assert found == {"2": 4_089_184_256, "4": 4.1e9, "5": 4_089_184_256}


def test_every_row_of_resizable_networks_has_a_place_on_an_axis_of_macs():
    rows = read_published(RESIZABLE)
    tables = [row["source"] for row in rows]
    # Three networks twice at four points; five trainings; seven networks; the points of two
    # networks beside those of others; two networks in three trainings.
    expected = {1: 3 * 2 * 4, 2: 5, 3: 7, 4: 1 + 5 + 5 + 10 + 1 + 3 + 3, 5: 2 * 3}
    assert {int(s[-1]): tables.count(s) for s in set(tables)} == expected
    assert all("macs_mean" in row for row in rows)


@pytest.mark.parametrize(
    ("data", "depth", "points"),
    [
        ("cifar10", 32, {1: 0.9302, 0.86: 0.9311, 0.47: 0.9218}),
        ("cifar10", 110, {1: 0.9457, 0.86: 0.9420, 0.23: 0.9370}),
        ("cifar100", 32, {1: 0.7038, 0.77: 0.7085, 0.71: 0.7009}),
        ("cifar100", 110, {1: 0.7394, 0.94: 0.7394, 0.75: 0.7394}),
    ],
)
def test_shares_that_a_paper_prints_are_taken_of_our_count_of_the_plain_network(
    data, depth, points
):
    rows = read_published(SGAD, [f"ResNet-{depth}", f"SGAD-{depth}"])
    rows = [row for row in rows if row["data"] == data]
    backbone = ResNet(((depth - 2) // 6,) * 3, classes=int(data.removeprefix("cifar")))
    plain = CostModel(Plain(backbone), (32, 32, 3)).cost(FULL).full
    assert {row["macs_share"]: row["top1"] for row in rows} == points
    assert [row["macs_mean"] for row in rows] == [round(plain * share) for share in points]


def test_sgad_has_three_points_of_each_network_and_data_set_with_their_source():
    rows = read_published(SGAD)
    assert len(rows) == 2 * 2 * 3
    assert {row["source"] for row in rows} == {"SGAD, table 1; MACs: its share of our count"}


def test_a_method_that_a_file_lacks_is_refused():
    with pytest.raises(UsageError, match="no method 'BlockDrop'; it has rand val, "):
        read_published(URNET, ["BlockDrop"])


def test_a_published_row_needs_a_source(tmp_path):
    write_json(tmp_path / "own.json", "published", [{"method": "m", "data": "d", "top1": 0.5}])
    with pytest.raises(UsageError, match="a row without source"):
        read_published(tmp_path / "own.json")


OWN = "published figures are those that urnet.json has of {}; what other papers print is not there"
PICTURES = ["runs_against_macs", "runs_against_budget", "ranged_against_fixed"]


def test_what_is_drawn_of_papers_and_what_not_is_said_of_each_picture():
    rows = read_published(URNET, ["URNet", "ResNet-72", "ResNet-101"])
    assert describe_published(rows, "imagenet2012", "docs/urnet.json", PICTURES) == [
        "runs_against_macs: ResNet-72, ResNet-101, URNet (URNet, table 2)",
        "runs_against_budget: ResNet-72, ResNet-101, URNet (URNet, table 2); "
        "no budget, so a level line without blocks: ResNet-72, ResNet-101",
        "ranged_against_fixed: runs alone",
        "left out: what urnet.json has on cifar10, cifar100",
        OWN.format("URNet"),
    ]


@pytest.mark.parametrize(
    ("picture", "draw"),
    [
        ("runs_against_macs", draw_runs_against_macs),
        ("runs_against_budget", draw_runs_against_budget),
    ],
)
def test_the_methods_that_are_told_are_those_that_a_legend_names(picture, draw):
    rows = [row for row in read_published(URNET) if row["data"] == "imagenet2012"]
    rows += [{**row, "method": "no FLOPs", "macs_mean": None} for row in rows[:1]]
    rows += [{**row, "method": "no budget", "asked": None} for row in rows if row["asked"]]

    (legend,) = draw(join_runs({"own": [ROW]}), "t", rows).legends
    (told,) = describe_published(rows, "imagenet2012", URNET, [picture])[:1]

    own, *drawn = [text.get_text() for text in legend.get_texts()]
    methods = told.removeprefix(f"{picture}: ").partition(" (URNet, table 2)")[0].split(", ")
    assert own == "own"
    assert drawn == [f"{method} (URNet, table 2)" for method in methods]


def test_only_the_pictures_that_were_drawn_are_told_of():
    told = describe_published(read_published(URNET, ["URNet"]), "cifar10", URNET, PICTURES[:1])
    assert told[0] == "runs_against_macs: nothing published; no FLOPs are printed of URNet"
    assert told[1].startswith("left out: ")


def test_each_of_several_papers_is_told_of():
    base = {"data": "digits", "top1": 0.9}
    rows = [
        {**base, "method": "A", "asked": 0.5, "macs_mean": 5, "source": "One, table 1"},
        {**base, "method": "A", "asked": 1.0, "source": "One, table 1"},
        {**base, "method": "B", "asked": None, "macs_mean": 5, "source": "Two, table 3"},
        {**base, "method": "B", "asked": None, "macs_mean": 7, "source": "Two, table 3"},
    ]
    assert describe_published(rows, "digits", "urnet.json", PICTURES[:2]) == [
        "runs_against_macs: A (One, table 1); B (Two, table 3); no FLOPs are printed of A",
        "runs_against_budget: A (One, table 1); several points, but no budget, so left out: B; "
        "no blocks are printed of A; no FLOPs are printed of A",
        OWN.format("One, Two"),
    ]


def test_a_file_without_rows_on_a_data_set_says_so():
    told = describe_published(read_published(URNET), "digits", "urnet.json", PICTURES)
    assert told == [
        "urnet.json has none on digits",
        "left out: what urnet.json has on cifar10, cifar100, imagenet2012",
        OWN.format("URNet"),
    ]
