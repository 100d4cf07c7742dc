"""The metrics file and the line of progress."""

import math

import numpy as np
import pytest

from jax_elastic.training.metrics import MetricsFile, means, progress_line

ROWS = [{"kind": "train", "step": step, "loss": 1 / step} for step in (2, 4, 6)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.jsonl"


@pytest.fixture
def metrics(path):
    file = MetricsFile(path)
    for row in ROWS:
        file.append(row)
    return file


def test_rows_are_read_as_they_were_written(metrics, path):
    assert metrics.rows() == MetricsFile(path).rows() == ROWS


def test_a_file_that_is_not_there_has_no_rows(path):
    assert MetricsFile(path).rows() == []


@pytest.mark.parametrize("step,left", [(-1, 0), (1, 0), (2, 1), (5, 2), (6, 3), (99, 3)])
def test_cutting_back_keeps_the_rows_up_to_a_step(metrics, step, left):
    metrics.cut_back(step)
    assert metrics.rows() == ROWS[:left]


def test_cutting_back_makes_a_file_where_there_is_none(path):
    MetricsFile(path).cut_back(3)
    assert path.read_text() == ""


@pytest.mark.parametrize("torn", ['{"step": 8, "lo', '{"step": 8}', "{"])
def test_a_last_line_torn_by_a_kill_is_left_out_and_cut_off(metrics, path, torn):
    with path.open("a") as file:
        file.write(torn)  # without its line end, so it may be a part of a longer number
    assert metrics.rows() == ROWS
    metrics.cut_back(10)
    metrics.append({"step": 8})
    assert metrics.rows() == [*ROWS, {"step": 8}]


def test_a_mean_is_a_sum_over_its_count():
    sums = {"top1": (np.float32(3), np.float32(4)), "ce": (1, 8)}
    assert means(sums) == {"top1": 0.75, "ce": 0.125}


def test_a_mean_over_nothing_is_not_a_number():
    assert math.isnan(means({"usage": (0.0, 0.0)})["usage"])


def line(**fields):
    row = {"phase": "gates", "step": 300, "epoch": 2.34, "loss": 1.5}
    row |= {"images_per_second": 12345.6, "seconds_to_go": 75.4}
    return progress_line({**row, **fields}, 1200, 10.0)


def test_a_progress_line_gives_place_time_speed_and_means():
    shown = line(top1=0.987, usage=0.512, budget=0.6, ce=1.2)
    assert shown == (
        "   gates  step 300/1200  epoch 2.3/10.0  ETA 1:15  12,346 images/s  "
        "loss 1.5000  top1 98.7%  usage 51.2%  budget 0.60"
    )


@pytest.mark.parametrize(
    "seconds,shown",
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")],
)
def test_the_time_to_go_is_a_clock(seconds, shown):
    assert f"ETA {shown}  " in line(seconds_to_go=seconds)
