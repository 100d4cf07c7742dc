"""The benchmark of counting tells seconds and points of what the command really counted."""

import json

import pytest

from benchmarks import count_all
from benchmarks.command import run


def test_a_row_tells_how_many_points_were_counted_in_how_many_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(count_all, "count_once", lambda config: (next(seconds), 9.0, 1296))
    seconds = iter([30.0, 10.0, 12.0])

    path = tmp_path / "rows.json"
    assert run(count_all.main, ["--configs=a.py:b,c", f"--json={path}"]) == 0

    (row,) = json.loads(path.read_text())["rows"]
    assert (row["config"], row["points"], row["rounds"]) == ("a.py:b,c", 1296, 3)
    assert (row["low"], row["seconds"], row["high"], row["kept"]) == (10, 12, 30, True)
    assert row["cpu_seconds"] == 9


@pytest.mark.slow
def test_the_command_is_timed_on_a_config():
    seconds, at_work, points = count_all.count_once("configs/anytime_digits.py")
    assert points == 4
    assert 0 < at_work < seconds


@pytest.mark.slow
def test_a_config_that_is_refused_is_told_in_one_line(capsys):
    assert run(count_all.main, ["--configs=configs/nothing.py", "--rounds=1", "--json=-"]) == 2
    assert "there is no config file configs/nothing.py" in capsys.readouterr().err
