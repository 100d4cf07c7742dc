"""Joining the rows of runs, and what is read of papers."""

from pathlib import Path

import pytest

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.compare import describe_published, join_runs, read_published
from jax_elastic.evaluation.rows import write_json

URNET = Path(__file__).resolve().parents[2] / "docs" / "published" / "urnet.json"
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


def test_a_method_that_a_file_lacks_is_refused():
    with pytest.raises(UsageError, match="no method 'BlockDrop'; it has rand val, "):
        read_published(URNET, ["BlockDrop"])


def test_a_published_row_needs_a_source(tmp_path):
    write_json(tmp_path / "own.json", "published", [{"method": "m", "data": "d", "top1": 0.5}])
    with pytest.raises(UsageError, match="a row without source"):
        read_published(tmp_path / "own.json")


def test_what_is_not_drawn_of_papers_is_said():
    told = describe_published(read_published(URNET), "cifar10", "urnet.json")
    assert told == (
        "published: URNet, table 1; published figures of other methods are drawn only from their "
        "own tables; there is none in urnet.json"
    )
    assert describe_published(read_published(URNET), "digits", "urnet.json").startswith(
        "urnet.json has none on digits; "
    )
