"""A trace of some steps: where it lies, that it is closed, and that it changes nothing."""

import gzip
import json

import jax
import pytest
from thorough import thorough
from toy import Toy

from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.errors import UsageError
from jax_elastic.training.checkpoint import tree_hash
from jax_elastic.training.experiment import Experiment, Runtime
from jax_elastic.training.loop import train
from jax_elastic.training.phases import Phase
from jax_elastic.training.profiling import step_range
from jax_elastic.training.stop import Stopped

BATCH, DATA = 16, DataConfig()


def toy(profile_steps=""):
    """Two phases of six steps, in dispatches of up to four."""
    epochs = 6 * BATCH / len(load(DATA, "train"))
    phases = tuple(Phase(name, epochs, "shallow", 0.1, batch_size=BATCH) for name in "ab")
    settings = {"runtime": Runtime(), "steps_per_dispatch": 4, "profile_steps": profile_steps}
    return Experiment(network=Toy(), phases=phases, data=DATA, **settings)


def run(experiment, workdir, stop=None, report=lambda line: None):
    return train(experiment, workdir, None, jax.devices()[:1], report, stop)


def traced_steps(workdir):
    """The first steps of the dispatches in the only trace of a workdir."""
    (trace,) = (workdir / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    marks = [event["args"] for event in events if event.get("name") == "train"]
    return sorted({int(mark["step_num"]) for mark in marks if "step_num" in mark})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(toy(), tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    "steps,dispatches",
    thorough(
        [
            ("0:2", [0]),
            ("3:9", [3, 4, 6, 8]),  # over a phase's end; also a dispatch ends at each 4th step
            ("11:99", [11]),  # longer than the run
        ],
        lambda steps, dispatches: steps == "3:9",
    ),
)
def test_the_steps_that_were_asked_for_are_traced_and_no_bit_changes(
    whole, tmp_path, steps, dispatches
):
    state = run(toy(steps), tmp_path)
    assert tree_hash(state) == tree_hash(whole)
    assert traced_steps(tmp_path) == dispatches
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


def test_a_run_that_stops_among_the_traced_steps_closes_its_trace(tmp_path):
    with pytest.raises(Stopped, match="step 4"):
        run(toy("1:9"), tmp_path, iter([False, True]).__next__)
    assert traced_steps(tmp_path) == [1]
    jax.profiler.start_trace(tmp_path / "another")  # which would fail while one is open
    jax.profiler.stop_trace()


def test_steps_beyond_the_run_are_refused_before_anything_is_trained(tmp_path):
    message = "profile_steps 12:15 is never reached; this run has 12 steps, from 0 to 11"
    with pytest.raises(UsageError, match=message):
        run(toy("12:15"), tmp_path)
    assert not (tmp_path / "profile").exists()


@pytest.mark.slow
@pytest.mark.parametrize("steps,last", [("1:3", 2), ("3:99", 11)])
def test_where_the_trace_lies_is_told_and_so_it_is_that_a_resumed_run_has_none(
    tmp_path, steps, last
):
    first, second = [], []
    run(toy(steps), tmp_path, report=first.append)
    traced = traced_steps(tmp_path)
    run(toy(steps), tmp_path, report=second.append)
    assert [line for line in first if "trace" in line] == [
        f"the trace lies in {tmp_path / 'profile'}"
    ]
    assert [line for line in second if "trace" in line] == [
        f"no trace: the last of config.profile_steps was {last}"
    ]
    assert traced_steps(tmp_path) == traced


def test_without_steps_nothing_is_traced(whole, tmp_path):
    run(toy(), tmp_path)
    assert not (tmp_path / "profile").exists()


def test_steps_are_named_by_the_first_and_the_one_after_the_last():
    assert step_range("10:15") == range(10, 15)
    assert not step_range("")


@pytest.mark.parametrize("text", ["10", "10:", "a:b", "5:5", "9:3", "-1:4", "1:2:3", "1.5:3"])
def test_what_is_no_range_of_steps_is_refused_when_the_experiment_is_made(text):
    with pytest.raises(UsageError, match=rf"profile_steps is '{text}'; first:stop with 0 <= first"):
        toy(text)
