"""The table of a search: written chunk by chunk, and never of two networks."""

import json

import pytest
from found_rows import table_row

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import write_json
from jax_elastic.inference.table import CHUNK, Table, read_table
from jax_elastic.subnet import Subnet

FACTS = {"hash": "abc", "n": 9, "recalibrated_images": None}
TIMED = {"batch_size": 1, "device": "cpu"}
POINTS = [(Subnet("width", (k,)), None) for k in range(1, CHUNK + 4)]


class Counter:
    """Measures that only remember what they were asked for; `missing` as those of a search."""

    def __init__(self, ms=None, most=None):
        self.asked, self._ms, self._most = [], ms, most

    def missing(self, row):
        return row is None or (self._ms is not None and row["ms"] is None)

    def __call__(self, points, known):
        if self._most is not None and len(self.asked) + len(points) > self._most:
            raise KeyboardInterrupt
        self.asked += points
        rows = {point: table_row(subnet=str(point[0]), asked=point[1]) for point in points}
        return {
            point: {**row, **known.get(point, {}), "ms": self._ms} for point, row in rows.items()
        }


@pytest.fixture
def path(tmp_path):
    return tmp_path / "search.json"


def test_each_point_is_measured_once_and_has_a_row_with_the_facts(path):
    measures = Counter()
    table = Table(path, FACTS)

    table.fill(POINTS, measures)
    rows = table.fill(POINTS[::-1], measures)

    assert measures.asked == POINTS
    assert [row["subnet"] for row in rows] == [str(subnet) for subnet, _ in POINTS[::-1]]
    assert rows[0] == {**table_row(subnet=str(POINTS[-1][0])), **FACTS}
    assert table.rows == rows[::-1] == list(read_table(path).values())


def test_a_search_that_was_stopped_goes_on_where_it_was_and_leaves_the_same_file(path, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Table(path, FACTS).fill(POINTS, Counter(most=CHUNK))
    again = Counter()

    Table(path, FACTS).fill(POINTS, again)

    assert again.asked == POINTS[CHUNK:]
    whole = tmp_path / "whole.json"
    Table(whole, FACTS).fill(POINTS, Counter())
    assert path.read_bytes() == whole.read_bytes()


def test_times_join_rows_that_have_none_and_say_what_they_are_of(path):
    Table(path, FACTS).fill(POINTS[:3], Counter())

    (row, *_) = Table(path, FACTS, TIMED).fill(POINTS[:2], Counter(ms=2.0))

    assert row == {**table_row(subnet="width:1", ms=2.0), **FACTS, **TIMED}
    untimed = json.loads(path.read_text())["rows"][2]
    assert untimed["ms"] is None and "device" not in untimed


def test_untimed_searches_go_on_from_a_table_with_times(path):
    Table(path, FACTS, TIMED).fill(POINTS[:1], Counter(ms=2.0))
    measures = Counter()

    (timed, untimed) = Table(path, FACTS).fill(POINTS[:2], measures)

    assert measures.asked == POINTS[1:2]
    assert (timed["ms"], timed["device"], untimed["ms"]) == (2.0, "cpu", None)


@pytest.mark.parametrize(
    ("facts", "timed", "message"),
    [
        ({**FACTS, "hash": "other"}, TIMED, "is a table of hash abc; this search is of hash other"),
        ({**FACTS, "n": 5}, TIMED, "is a table of n 9; this search is of n 5"),
        ({**FACTS, "recalibrated_images": 64}, None, "recalibrated_images None; this search is of"),
    ],
)
def test_rows_of_something_else_are_not_mixed_in(facts, timed, message, path):
    Table(path, FACTS, TIMED).fill(POINTS[:1], Counter(ms=2.0))
    before = path.read_bytes()

    with pytest.raises(UsageError) as error:
        Table(path, facts, timed)

    assert message in str(error.value) and "delete it to begin anew" in str(error.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("other", [{"batch_size": 8}, {"device": "gpu"}], ids=str)
def test_times_of_something_else_are_missing_and_stay_in_the_file(other, path):
    Table(path, FACTS, TIMED).fill(POINTS[:2], Counter(ms=2.0))
    measures, timed = Counter(ms=9.0), {**TIMED, **other}
    table = Table(path, FACTS, timed)

    (row,) = table.fill(POINTS[:1], measures)

    assert measures.asked == POINTS[:1]
    assert row == {**table_row(subnet="width:1", ms=9.0), **FACTS, **timed}
    assert table.rows == [row, {**table_row(subnet="width:2"), **FACTS}]
    kept = {**table_row(subnet="width:2", ms=2.0), **FACTS, **TIMED}
    assert json.loads(path.read_text())["rows"] == [row, kept]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "row 2 of .* lacks subnet, asked"),
        ([], "row 2 of .* lacks subnet, asked"),
        ({key: v for key, v in table_row().items() if key != "ms"}, "row 2 of .* lacks ms, or"),
        (table_row(macs="many"), "row 2 of .* lacks macs, or they are of another type"),
    ],
    ids=["nothing", "no object", "no time", "no number"],
)
def test_a_row_that_no_search_wrote_is_refused(row, message, path):
    write_json(path, "search", [table_row(), row])
    with pytest.raises(UsageError, match=message):
        Table(path, {})


def test_a_file_of_another_kind_is_refused(path):
    path.write_text('{"schema": 1, "kind": "eval", "rows": []}')
    with pytest.raises(UsageError, match="holds rows of kind 'eval', not 'search'"):
        Table(path, FACTS)
