"""Event files: what TensorBoard would read, without it and without TensorFlow."""

import struct
import subprocess
import sys

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from jax_elastic.training.events import EventFiles
from jax_elastic.training.metrics import MetricsFile

ROW = {"kind": "train", "step": 2, "phase": "base", "loss": 0.5, "top1": None, "steps": 2}


def events(directory):
    """All events of a directory, file by file; the format is that of TFRecord."""
    found = []
    for path in sorted(directory.iterdir()):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            found.append(Event.FromString(data[place + 12 : place + 12 + length]))
            place += 12 + length + 4
    return found


def scalars(directory):
    """(tag, step, value) in the order of writing."""
    return [
        (value.tag, event.step, value.simple_value)
        for event in events(directory)
        for value in event.summary.value
    ]


@pytest.fixture
def metrics(tmp_path):
    with MetricsFile(tmp_path / "metrics.jsonl", EventFiles(tmp_path / "events")) as file:
        yield file


def test_the_numbers_of_a_row_are_scalars_as_soon_as_it_is_written(metrics, tmp_path):
    metrics.append(ROW)
    assert scalars(tmp_path / "events") == [("train/loss", 2, 0.5), ("train/steps", 2, 2.0)]


def test_a_run_that_goes_on_tells_from_which_step_the_older_files_are_void(metrics, tmp_path):
    metrics.append(ROW)
    metrics.cut_back(1)
    metrics.append({**ROW, "loss": 0.25})
    starts = [
        event.step
        for event in events(tmp_path / "events")
        if event.session_log.status == SessionLog.START
    ]
    assert starts == [0, 2]
    assert ("train/loss", 2, 0.25) in scalars(tmp_path / "events")


def test_a_process_that_does_not_write_makes_no_file(tmp_path):
    events = EventFiles(tmp_path / "events")
    with MetricsFile(tmp_path / "metrics.jsonl", events, writes=False) as file:
        file.append(ROW)
        file.cut_back(-1)
    assert list(tmp_path.iterdir()) == []


WRITE = """
import sys
from pathlib import Path
from jax_elastic.training.events import EventFiles

sys.path.insert(0, sys.argv[1])
events = EventFiles(Path(sys.argv[2]))
events.append({"kind": "train", "step": 2, "loss": 0.5})
events.close()
sys.exit("tensorflow" in sys.modules)
"""


def test_writing_imports_no_tensorflow(tmp_path):
    # An empty one, for what is not installed could not be imported anyway.
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "tensorflow.py").touch()
    directories = [str(tmp_path / name) for name in ("modules", "events")]
    assert subprocess.run([sys.executable, "-c", WRITE, *directories]).returncode == 0
    assert scalars(tmp_path / "events") == [("train/loss", 2, 0.5)]
