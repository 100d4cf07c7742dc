"""Candidates are the Pareto front of a search, thinned so that both ends stay."""

import pytest
from found_rows import table_row

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import write_json
from jax_elastic.inference.candidates import from_search


def found(value, macs, top1, checkpoint="abc"):
    return table_row(subnet=f"cut:{value}", macs=macs, top1=top1, hash=checkpoint)


ROWS = [
    found(3, 30, 0.9),
    found(1, 10, 0.5),
    found(2, 20, 0.4),
    found(4, 40, 0.9),
    found(5, 15, 0.7),
]


@pytest.mark.parametrize(
    "most,points", [(16, ["cut:1", "cut:5", "cut:3"]), (2, ["cut:1", "cut:3"])], ids=str
)
def test_candidates_are_the_points_that_no_cheaper_one_equals(tmp_path, most, points):
    write_json(tmp_path / "search.json", "search", ROWS)

    assert list(map(str, from_search(tmp_path / "search.json", "abc", most))) == points


def test_a_table_of_other_weights_is_refused(tmp_path):
    write_json(tmp_path / "search.json", "search", [*ROWS, found(6, 50, 0.95, "other")])

    with pytest.raises(UsageError, match=r"of another checkpoint; search again.*--subnet"):
        from_search(tmp_path / "search.json", "abc", 16)


def test_a_front_of_statistics_that_the_workdir_does_not_have_is_refused(tmp_path):
    rows = [{**row, "recalibrated_images": 64} for row in ROWS]
    write_json(tmp_path / "search.json", "search", rows)

    with pytest.raises(UsageError, match=r"were recalibrated.*--subnet.*without --recalibrate"):
        from_search(tmp_path / "search.json", "abc", 16)


def test_a_table_that_no_search_wrote_is_refused(tmp_path):
    write_json(tmp_path / "search.json", "search", [{"subnet": "cut:1", "hash": "abc"}])

    with pytest.raises(UsageError, match=r"row 1 of .*search.json lacks asked, .*macs"):
        from_search(tmp_path / "search.json", "abc", 16)
