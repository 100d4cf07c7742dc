"""What the log reads and when, and what its rows say, under a clock that the test turns."""

import itertools
import time

import jax
import numpy as np
import pytest
from toy import Toy

from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.training import loop
from jax_elastic.training.clock import Clock
from jax_elastic.training.experiment import Experiment, Runtime
from jax_elastic.training.log import Dispatch, Log, NonFiniteLossError
from jax_elastic.training.phases import Phase, spans

BATCH = 16
# Ten steps, then six: sixteen in all.
FIRST, LAST = spans(
    (
        Phase("first", 10.0, "base", 0.1, batch_size=BATCH),
        Phase("last", 6.0, "base", 0.1, batch_size=BATCH),
    ),
    size=BATCH,
)


class Time:
    """Stands still until it is turned."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class OnDevice:
    """A number on its way from the device, that writes down when it is asked for."""

    def __init__(self, value, name, events):
        self.value, self.name, self.events = value, name, events

    def __array__(self, dtype=None, copy=None):
        self.events.append(f"read {self.name}")
        return np.asarray(self.value, dtype)


@pytest.fixture
def now(monkeypatch):
    now = Time()
    monkeypatch.setattr(time, "monotonic", now)
    return now


@pytest.fixture
def clock(now):
    """Of a run that has trained for 50 seconds."""
    return Clock(50.0)


@pytest.fixture
def rows():
    """Stands for a `MetricsFile`."""
    return []


@pytest.fixture
def log(rows, clock):
    return Log(rows, lambda line: None, FIRST, LAST, lambda: None, clock)


def dispatch(step, n, losses=None, **sums):
    return Dispatch(step, n, np.ones(4) if losses is None else np.array(losses), sums)


def test_a_dispatch_is_read_when_the_next_one_is_handed_over(log):
    events = []
    for step in (1, 2, 3):
        losses = OnDevice(np.ones(1), step, events)
        log.dispatched(Dispatch(step, 1, losses, {}), due=False)
        events.append(f"handed over {step}")
    log.drain()
    expected = ["handed over 1", "read 1", "handed over 2", "read 2", "handed over 3", "read 3"]
    assert events == expected


def test_draining_twice_reads_once(log):
    events = []
    log.dispatched(Dispatch(1, 1, OnDevice(np.ones(1), 1, events), {}), due=False)
    log.drain()
    log.drain()
    assert events == ["read 1"]


def test_the_loop_starts_a_dispatch_before_it_reads_the_one_before(tmp_path, monkeypatch):
    events, make_program = [], loop.make_program

    def recording(*arguments):
        chunk = make_program(*arguments)

        def start(state, *rest):
            step, n = int(state.step), rest[-1]
            state, losses, sums = chunk(state, *rest)
            if n == 0:  # only compiles
                return state, losses, sums
            events.append(f"start {step}")
            return state, OnDevice(losses, step, events), sums

        return start

    monkeypatch.setattr(loop, "make_program", recording)
    data = DataConfig()
    # One draw a step: two would have to be compiled in either order, and be waited for.
    phase = Phase("all", 8 * BATCH / len(load(data, "train")), "shallow", 0.1, batch_size=BATCH)
    runtime = Runtime(log_every=2)
    experiment = Experiment(network=Toy(), phases=(phase,), data=data, runtime=runtime)
    loop.train(experiment, tmp_path, None, jax.devices()[:1], lambda line: None)
    started = [i for i, event in enumerate(events) if event.startswith("start")]
    steps = [events[i].removeprefix("start ") for i in started]
    assert len(steps) == 4  # a dispatch ends at each row
    expected = [f"start {steps[0]}"]
    for before, after in itertools.pairwise(steps):
        expected += [f"start {after}", f"read {before}"]
    assert events == [*expected, f"read {steps[-1]}"]


def test_a_row_is_written_only_where_it_is_due(log, rows):
    for step, due in [(1, False), (2, True), (3, False), (4, False), (5, True), (6, False)]:
        log.dispatched(dispatch(step, 1), due)
    log.drain()
    assert [(row["step"], row["steps"], row["phase"]) for row in rows] == [
        (2, 2, "first"),
        (5, 3, "first"),
    ]
    assert [row["epoch"] for row in rows] == [2, 5]  # one batch is the whole set


def test_sums_and_counts_add_up_over_dispatches_and_begin_anew_after_a_row(log, rows):
    log.dispatched(dispatch(1, 1, ce=(6.0, 2.0)), due=False)
    log.dispatched(dispatch(2, 1, ce=(2.0, 6.0), usage=(3.0, 4.0)), due=True)
    log.dispatched(dispatch(3, 1, ce=(5.0, 1.0)), due=True)
    log.drain()
    assert [(row["ce"], row.get("usage")) for row in rows] == [(1.0, 0.75), (5.0, None)]


def test_seconds_speed_and_time_to_go_are_exact(log, rows, now, clock):
    clock.run()
    log.dispatched(dispatch(2, 2), due=False)
    now.now += 3
    log.dispatched(dispatch(8, 6), due=True)
    now.now += 1
    log.drain()
    # 8 steps of 16 images in 4 seconds after the first 50; 8 steps are left, in both phases.
    assert rows[0]["seconds"] == 54
    assert rows[0]["images_per_second"] == 8 * BATCH / 4
    assert rows[0]["seconds_to_go"] == 8 / (8 / 4)


def test_the_speed_of_a_row_counts_from_the_row_before(log, rows, now, clock):
    clock.run()
    log.dispatched(dispatch(2, 2), due=True)
    for step, seconds in [(4, 8), (6, 0.5)]:
        now.now += seconds
        log.dispatched(dispatch(step, 2), due=True)
    assert [row["images_per_second"] for row in rows] == [2 * BATCH / 8, 2 * BATCH / 0.5]
    assert [row["seconds_to_go"] for row in rows] == [14 / (2 / 8), 12 / (2 / 0.5)]


def test_after_a_drain_the_clock_stands_until_the_next_dispatch(log, rows, now, clock):
    clock.run()
    log.dispatched(dispatch(2, 2), due=True)
    now.now += 1
    log.drain()
    now.now += 100  # validating, saving, compiling
    clock.run()
    log.dispatched(dispatch(4, 2), due=True)
    now.now += 2
    log.drain()
    assert [row["seconds"] for row in rows] == [51, 53]
    assert rows[1]["images_per_second"] == 2 * BATCH / 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_a_loss_that_is_not_finite_raises_and_names_its_step(log, rows, bad):
    # Steps 4, 5 and 6 are done by the dispatch that ends at 7; the second of them is bad.
    log.dispatched(dispatch(7, 3, [1, bad, bad, 1]), due=True)
    with pytest.raises(NonFiniteLossError, match=rf"the loss is {bad} at step 5, phase 'first'"):
        log.drain()
    assert rows == []


def test_what_lies_behind_a_short_dispatch_is_not_looked_at(log, rows):
    log.dispatched(dispatch(2, 2, [1, 1, np.nan, np.nan]), due=True)
    log.drain()
    assert len(rows) == 1
