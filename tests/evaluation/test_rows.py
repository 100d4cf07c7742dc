"""Result files: what is written is read back, and what cannot be trusted is refused."""

import json

import numpy as np
import pytest

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import name_point, read_json, write_json


def test_rows_come_back_as_they_were_written(tmp_path):
    rows = [{"subnet": "width:3", "top1": 0.97, "top1_ci95": [0.96, 0.98], "asked": None}]
    write_json(tmp_path / "new" / "rows.json", "eval", rows)
    assert read_json(tmp_path / "new" / "rows.json", "eval") == rows


def test_the_file_names_its_schema_and_kind(tmp_path):
    path = tmp_path / "rows.json"
    write_json(path, "eval", [{"n": 5}])
    assert json.loads(path.read_text()) == {"schema": 1, "kind": "eval", "rows": [{"n": 5}]}


def test_numpy_values_become_numbers_and_lists(tmp_path):
    path = tmp_path / "rows.json"
    write_json(path, "eval", [{"n": np.int64(5), "top1": np.float32(0.5), "usage": np.ones(2)}])
    assert read_json(path, "eval") == [{"n": 5, "top1": 0.5, "usage": [1.0, 1.0]}]


def test_a_dash_writes_to_standard_output(capsys):
    write_json("-", "eval", [])
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "kind": "eval", "rows": []}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_a_value_that_is_not_finite_is_refused_and_the_old_file_stays(tmp_path, value):
    path = tmp_path / "rows.json"
    write_json(path, "eval", [{"top1": 0.5}])
    with pytest.raises(ValueError):
        write_json(path, "eval", [{"top1": value}])
    assert read_json(path, "eval") == [{"top1": 0.5}]


def test_a_newer_schema_is_refused_by_name(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{"schema": 2, "kind": "eval", "rows": []}')
    with pytest.raises(UsageError, match=r"schema 2.*up to schema 1; update jax_elastic"):
        read_json(path, "eval")


def test_another_kind_is_refused(tmp_path):
    path = tmp_path / "rows.json"
    write_json(path, "macs", [])
    with pytest.raises(UsageError, match="'macs', not 'eval'"):
        read_json(path, "eval")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "is not JSON"),
        ("[]", "is not a result file"),
        ('{"kind": "eval", "rows": []}', "is not a result file"),
        ('{"schema": "1", "kind": "eval", "rows": []}', "is not a result file"),
        ('{"schema": true, "kind": "eval", "rows": []}', "is not a result file"),
        ('{"schema": 1, "kind": "eval"}', "is not a result file"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused(tmp_path, text, message):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_json(path, "eval")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_json(tmp_path / "rows.json", "eval")


def test_a_point_is_named_with_its_budget_if_it_has_one():
    assert name_point({"subnet": "width:1", "asked": None}) == "width:1"
    assert name_point({"subnet": "full", "asked": 0.6}) == "full at budget 0.6"
