"""A run that is asked to stop loses nothing, whether by a callable or by SIGTERM."""

import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from thorough import thorough
from toy import Toy

from jax_elastic.cli import run as run_command
from jax_elastic.cli import train_command
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.training.checkpoint import Checkpoints, tree_hash
from jax_elastic.training.experiment import Experiment, Runtime
from jax_elastic.training.log import NonFiniteLossError
from jax_elastic.training.loop import train
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Phase
from jax_elastic.training.stop import Stopped, on_sigterm

REPOSITORY = Path(__file__).resolve().parents[2]
BATCH, DATA = 16, DataConfig()
CLOCK = ("seconds", "images_per_second", "seconds_to_go")


def toy(*learning_rates, steps=5, **runtime):
    epochs = steps * BATCH / len(load(DATA, "train"))
    phases = tuple(
        Phase(f"phase{i}", epochs, "both", rate, batch_size=BATCH)
        for i, rate in enumerate(learning_rates or (0.1, 0.05))
    )
    runtime = Runtime(**{"log_every": 1, "save_every": 1000, **runtime})
    return Experiment(network=Toy(), phases=phases, data=DATA, runtime=runtime)


def run(experiment, workdir, stop=None):
    return train(experiment, workdir, None, jax.devices()[:1], lambda line: None, stop)


def at(step, size=1):
    """True from the time it is asked after `step`, where dispatches do `size` steps."""
    times = itertools.count(size, size)
    return lambda: next(times) >= step


def rows(workdir):
    """The metric rows, without what depends on the clock."""
    found = MetricsFile(workdir / "metrics.jsonl").rows()
    return [{key: row[key] for key in row if key not in CLOCK} for row in found]


def latest(workdir):
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        return checkpoints.latest


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The state and the workdir of a run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("whole")
    return run(toy(), workdir), workdir


# Within the first phase, at its end, and within the second.
@pytest.mark.parametrize("step", thorough([3, 5, 9], (5).__eq__))
def test_a_run_that_is_stopped_and_goes_on_ends_with_the_same_bits_and_rows(whole, tmp_path, step):
    with pytest.raises(Stopped, match=f"stopped at step {step}") as stopped:
        run(toy(), tmp_path, at(step))
    assert stopped.value.step == step == latest(tmp_path)
    state, workdir = whole
    assert tree_hash(run(toy(), tmp_path)) == tree_hash(state)
    assert rows(tmp_path) == rows(workdir)


def test_a_run_that_is_always_asked_to_stop_gets_to_its_end_slice_by_slice(tmp_path):
    for step in (1, 2, 3):
        with pytest.raises(Stopped, match=f"stopped at step {step}$"):
            run(toy(steps=2), tmp_path / "slices", lambda: True)
    state = run(toy(steps=2), tmp_path / "slices", lambda: True)
    assert tree_hash(state) == tree_hash(run(toy(steps=2), tmp_path / "whole"))


def test_the_rows_of_a_stopped_run_lack_no_step(tmp_path):
    with pytest.raises(Stopped):
        run(toy(log_every=4), tmp_path, lambda: True)
    run(toy(log_every=4), tmp_path)
    assert sum(row["steps"] for row in rows(tmp_path)) == 10


def test_a_step_that_was_just_saved_is_not_saved_again(tmp_path, monkeypatch):
    saved, save = [], Checkpoints.save

    def counting(self, step, *rest):
        saved.append(step)
        save(self, step, *rest)

    monkeypatch.setattr(Checkpoints, "save", counting)
    with pytest.raises(Stopped):
        run(toy(save_every=3), tmp_path, at(3))
    assert saved == [3]


def test_a_run_that_diverged_is_not_saved_though_it_is_asked_to_stop(tmp_path):
    with pytest.raises(NonFiniteLossError):
        run(toy(1e30, steps=8, log_every=8), tmp_path, at(8))
    assert latest(tmp_path) is None


def test_sigterm_only_answers_while_it_is_asked_for_and_the_old_handler_comes_back():
    old = signal.getsignal(signal.SIGTERM)
    with on_sigterm() as stop:
        before = stop()
        signal.raise_signal(signal.SIGTERM)
        after = stop()
    assert (before, after) == (False, True)
    assert signal.getsignal(signal.SIGTERM) is old


def test_the_command_that_was_stopped_says_so_in_one_line_and_exits_as_sigterm_does(
    tmp_path, monkeypatch, capsys
):
    def stopping(*arguments, stop):
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        raise Stopped(12)

    monkeypatch.setattr(train_command, "train", stopping)
    assert run_command(["train", f"--workdir={tmp_path}"]) == 143
    assert capsys.readouterr().err == "stopped at step 12; the same command goes on\n"


TINY = (
    "--config=configs/urnet_digits.py:base",
    "--config.network.backbone.stage_sizes=(1,)",
    "--config.network.backbone.width=4",
    "--config.runtime.log_every=8",
    "--config.data.validation=0",
    "--platform=cpu",
)


def start(workdir, epochs):
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_NUM_CPU_DEVICES": "1",
    }
    command = [sys.executable, "-u", "-m", "jax_elastic", "train", f"--workdir={workdir}", *TINY]
    return subprocess.Popen(
        [*command, f"--config.phases.base.epochs={epochs}"],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_process_that_gets_sigterm_saves_and_the_same_command_ends_with_the_same_hash(tmp_path):
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    process = start(stopped, epochs=100)
    try:
        assert any("step 8/" in line for line in process.stdout), "it ended by itself"
    finally:
        process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 143
    step = int(re.search(r"stopped at step (\d+); the same command goes on\n$", error)[1])
    assert 8 <= step == latest(stopped)

    hashes = []
    for workdir in (stopped, whole):
        process = start(workdir, epochs=100)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0
        assert (f"resuming at step {step} of" in output) == (workdir == stopped)
        hashes += re.findall(r"done: step \d+, variables ([0-9a-f]{64})", output)
    assert hashes[0] == hashes[1]
