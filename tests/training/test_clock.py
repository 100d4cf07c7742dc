"""The clock: what counts as training time, in one process and over restarts."""

import time

import jax
import numpy as np
import pytest
from toy import Toy

from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.training import loop
from jax_elastic.training.checkpoint import Checkpoints, tree_hash
from jax_elastic.training.clock import Clock
from jax_elastic.training.experiment import Experiment, Runtime
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Phase
from jax_elastic.training.program import make_program
from jax_elastic.training.stop import Stopped

BATCH, DATA = 16, DataConfig()
COMPILING, SLOW, STEP = 1000.0, 100.0, 1.0


@pytest.fixture
def now(monkeypatch):
    """The time, which only the test turns."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_clock_counts_only_while_it_runs(now):
    clock = Clock()
    for _ in range(2):
        now[0] += 100
        clock.run()
        now[0] += 1
        clock.stand()
    now[0] += 100
    assert clock.seconds == 2


def test_running_and_standing_twice_are_running_and_standing(now):
    clock = Clock()
    clock.run()
    now[0] += 1
    clock.run()
    now[0] += 1
    clock.stand()
    clock.stand()
    assert clock.seconds == 2


def test_a_clock_goes_on_from_the_seconds_that_were_kept(now):
    clock = Clock(7.0)
    clock.run()
    now[0] += 1
    assert clock.seconds == 8


@pytest.fixture
def world(now, monkeypatch):
    """A world in which a step takes 1 second, a compilation 1000, a save or validation 100."""

    def slow_chunk(*arguments):
        chunk = make_program(*arguments)

        def run(state, arrays, ids, draws, n):
            found = chunk(state, arrays, ids, draws, n)
            now[0] += STEP * int(n) if n else COMPILING
            return found

        return run

    save = Checkpoints.save

    def slow_save(*arguments):
        now[0] += SLOW
        save(*arguments)

    monkeypatch.setattr(loop, "make_program", slow_chunk)
    monkeypatch.setattr(Checkpoints, "save", slow_save)

    def slow_validation(variables):
        now[0] += SLOW
        return {}

    return slow_validation


def experiment(objective):
    epochs = 5 * BATCH / len(load(DATA, "train"))
    phases = tuple(Phase(name, epochs, objective, 0.1, batch_size=BATCH) for name in "ab")
    runtime = Runtime(log_every=1, save_every=3, validate_every=2)
    return Experiment(network=Toy(), phases=phases, data=DATA, runtime=runtime)


def run(workdir, validate=None, stop=None, objective="shallow"):
    devices = jax.devices()[:1]
    return loop.train(experiment(objective), workdir, validate, devices, lambda line: None, stop)


def seconds(workdir):
    rows = MetricsFile(workdir / "metrics.jsonl").rows()
    return [row["seconds"] for row in rows if row["kind"] == "train"]


def test_rows_tell_training_time_over_all_phases_and_nothing_else(world, tmp_path):
    run(tmp_path, world)
    # A row may be read after the next dispatch has begun, which takes a second here.
    np.testing.assert_allclose(seconds(tmp_path), np.arange(1, 11), atol=STEP)
    assert seconds(tmp_path)[-1] == 10


def test_training_time_goes_on_after_a_restart(world, tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path, world, stop=lambda: True)
    run(tmp_path, world)
    assert seconds(tmp_path)[-1] == 10


def test_a_checkpoint_that_does_not_tell_the_time_counts_from_zero(world, tmp_path, monkeypatch):
    save = Checkpoints.save

    def timeless(self, step, items, meta):
        save(self, step, items, {key: meta[key] for key in meta if key != "seconds"})

    with monkeypatch.context() as context, pytest.raises(Stopped):
        context.setattr(Checkpoints, "save", timeless)
        run(tmp_path, world, stop=lambda: True)
    run(tmp_path, world)
    assert seconds(tmp_path)[-1] < 10


@pytest.fixture
def calls(monkeypatch):
    """Of each call of a program: n, the hashes of the state, and how much was compiled before."""
    calls = []

    def watched(*arguments):
        chunk = make_program(*arguments)

        def run(state, *rest):
            before, hashed = chunk._cache_size(), tree_hash(state)
            found = chunk(state, *rest)
            calls.append((int(rest[-1]), hashed, tree_hash(found[0]), before, chunk._cache_size()))
            return found

        return run

    monkeypatch.setattr(loop, "make_program", watched)
    return calls


def test_doing_zero_steps_compiles_and_changes_no_bit_of_the_state(calls, tmp_path):
    run(tmp_path, objective="both")
    compiling = [call for call in calls if call[0] == 0]
    # Two phases; a switch serves both orders in which the draws can come.
    assert [after - before for *_, before, after in compiling] == [1] * 2
    assert all(before == after for _, before, after, *_ in compiling)


def test_no_step_is_compiled_for_while_the_clock_runs_also_not_after_a_restart(calls, tmp_path):
    with pytest.raises(Stopped):
        run(tmp_path, objective="both", stop=lambda: True)
    run(tmp_path, objective="both")
    steps = [call for call in calls if call[0] > 0]
    assert sum(call[0] for call in steps) == 10
    assert all(before == after for *_, before, after in steps)
