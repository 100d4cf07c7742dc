"""Every form trains the same network through the loop, in float64, and compiles what it says."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from thorough import thorough
from toy import Toy
from warm import some_draws

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.training import loop
from jax_elastic.training.checkpoint import tree_hash
from jax_elastic.training.experiment import Experiment, Runtime
from jax_elastic.training.feed import Feed
from jax_elastic.training.mesh import make_mesh, replicated
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Phase, make_optimizer, spans
from jax_elastic.training.program import make_program
from jax_elastic.training.state import TrainState
from jax_elastic.training.stop import Stopped

DATA, BATCH, STEPS, K = DataConfig(), 16, 5, 4
EPOCHS = STEPS * BATCH / len(load(DATA, "train"))
RESIZABLE = Resizable(ResNet((1,), width=2, classes=10), (0.5, 1.0), side=8)
NO_NUMBERS = ("kind", "phase", "seconds", "images_per_second", "seconds_to_go")
ONE_PROGRAM = ("scan", "scan_switch", "vmap")


PHASE = Phase("first", EPOCHS, "both", 0.1, batch_size=BATCH)
# All that a form has to respect: a frozen part, a batch in parts, soft targets.
HARD = dataclasses.replace(PHASE, trainable="^(block|head)", accumulate=2, label_smoothing=0.1)
SECOND = dataclasses.replace(PHASE, name="second", trainable="^head", optimizer="adam")


def experiment(form, *phases, dtype="float32", **fields):
    """Both depths in every step, in an order that changes."""
    settings = {"data": DATA, "ema_decay": 0.9, "steps_per_dispatch": K, **fields}
    settings.setdefault("network", Toy(dtype))
    return Experiment(phases=phases or (PHASE,), form=form, **settings)


def run(experiment, workdir, devices=1, stop=None):
    """The final state, on the host."""
    chosen = jax.devices()[:devices]
    state = loop.train(experiment, workdir, None, chosen, lambda line: None, stop)
    return jax.device_get(state)


def run_in_float64(form, workdir, devices=1):
    """The final state, and the rows without words and what depends on the clock."""
    runtime = Runtime(log_every=3)
    with jax.enable_x64(True):
        hard = experiment(form, HARD, dtype="float64", runtime=runtime)
        state = run(hard, workdir, devices)
    rows = MetricsFile(workdir / "metrics.jsonl").rows()
    return state, [{key: row[key] for key in row if key not in NO_NUMBERS} for row in rows]


@pytest.fixture(scope="module")
def sliced(tmp_path_factory):
    return run_in_float64("sliced", tmp_path_factory.mktemp("sliced"))


# One that is one program and one that is not; each alone is compared in test_sum_of_grads.py.
@pytest.mark.parametrize(
    "form,devices",
    thorough(
        [*((form, 1) for form in ONE_PROGRAM), ("host", 1), ("host", 8)],
        lambda form, devices: form in ("scan_switch", "host") and devices == 1,
    ),
)
def test_the_loop_trains_the_same_network_in_every_form_in_float64(sliced, tmp_path, form, devices):
    state, rows = run_in_float64(form, tmp_path, devices)
    expected, expected_rows = sliced
    assert expected.params["head"]["classifier"]["kernel"].dtype == np.float64
    # Law 1: the same sums in another order, here over five steps of momentum.
    chex.assert_trees_all_close(state, expected, rtol=1e-10, atol=1e-10)
    assert [row["step"] for row in rows] == [3, 5]
    chex.assert_trees_all_close(rows, expected_rows, rtol=1e-10)


@pytest.mark.parametrize(
    "form,network,phases",
    [
        ("host", Toy(), (PHASE, SECOND)),
        # The toy that test_loop.py interrupts goes by it, too.
        pytest.param("auto", Toy(), (PHASE, SECOND), marks=pytest.mark.slow),
        pytest.param(
            "staged",
            RESIZABLE,
            (dataclasses.replace(PHASE, objective="independent"),),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["host", "auto", "staged"],
)
def test_a_run_of_several_draws_that_is_stopped_ends_with_the_same_bits(
    tmp_path, form, network, phases
):
    asked = experiment(form, *phases, network=network)
    whole = run(asked, tmp_path / "whole")
    # Dispatches of other lengths, too.
    stopping = dataclasses.replace(asked, runtime=Runtime(log_every=2, save_every=3))
    with pytest.raises(Stopped):
        run(stopping, tmp_path / "stopped", stop=lambda: True)
    assert tree_hash(run(stopping, tmp_path / "stopped")) == tree_hash(whole)


class Ready:
    """The program of a phase, its feed, and a state to begin with."""

    def __init__(self, form, devices=1):
        self.experiment = experiment(form)
        (self.span,) = spans(self.experiment.phases, len(load(DATA, "train")))
        self.mesh = make_mesh(jax.devices()[:devices])
        self.feed = Feed(self.experiment, load(DATA, "train"), self.mesh)
        self.program = make_program(self.experiment, self.span, self.mesh)

    def begin(self):
        @partial(jax.jit, out_shardings=replicated(self.mesh))
        def fresh():
            params, stats = Toy().init(jax.random.key(0), jnp.zeros((1, 8, 8, 1))).values()
            opt_state = make_optimizer(self.span).init(params)
            average = jax.tree.map(jnp.copy, {"params": params, "stats": stats})
            return TrainState(params, stats, opt_state, jnp.int32(0), jnp.uint32(0), average)

        return fresh()

    def __call__(self, state, n=None, draws=None):
        portion = self.feed.portion(self.span, 0)
        n = portion.n if n is None else n
        draws = portion.draws if draws is None else draws
        return self.program(state, self.feed.arrays, portion.ids, draws, np.int32(n))


@pytest.fixture(scope="module")
def host():
    return Ready("host")


def drawn(*depths):
    """The static draws of one step."""
    points = {draw.subnet.value[0]: draw for draw in some_draws(Toy(), "both")}
    return tuple(points[depth] for depth in depths)


def test_every_point_gets_one_program_however_the_draws_change():
    host = Ready("host")
    programs = host.program
    state, _, _ = host(host.begin(), 0, (drawn(1), drawn(1)))
    assert programs.gradients._cache_size() == 1
    state, _, _ = host(state, 3, (drawn(1), drawn(1, 2), drawn(2, 1)))
    state, _, _ = host(state, 2, (drawn(2, 2, 1), drawn(2)))
    assert int(state.step) == 5
    assert programs.gradients._cache_size() == 2
    for shared in (programs.batch, programs.add, programs.update):
        assert shared._cache_size() == 1


@pytest.mark.parametrize("form", thorough(ONE_PROGRAM, "scan_switch".__eq__))
def test_all_combinations_of_points_share_one_program(form):
    ready = Ready(form)
    state = ready.begin()
    portion = ready.feed.portion(ready.span, 0)
    for coords in ([0, 1], [1, 0], [0, 0], [1, 1]):
        where = np.broadcast_to(np.int32(coords)[:, None], portion.draws.where.shape)
        state, _, _ = ready(state, 1, dataclasses.replace(portion.draws, where=where))
    assert int(state.step) == 4
    assert ready.program._cache_size() == 1


def test_compiling_a_program_per_draw_changes_no_bit_of_the_state_and_reports_nothing(host):
    state = host.begin()
    before = tree_hash(state)
    same, losses, sums = host(state, 0)
    assert tree_hash(same) == before
    assert losses.shape == (K,)
    assert not any(leaf.any() for leaf in jax.tree.leaves((losses, sums)))


def test_programs_per_draw_take_over_the_memory_of_the_state(host):
    old = host.begin()
    new, _, _ = host(old)
    taken = jax.tree.leaves((old.params, old.opt_state, old.ema["params"]))
    assert all(leaf.is_deleted() for leaf in taken)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(new))


def test_a_dispatch_of_programs_per_draw_does_the_first_n_of_its_steps(host):
    state, losses, sums = host(host.begin(), 2)
    _, all_losses, _ = host(host.begin(), K)
    assert int(state.step) == 2
    np.testing.assert_array_equal(losses, [*all_losses[:2], 0, 0])
    assert np.count_nonzero(all_losses) == K
    assert sums["loss"][1] == 2
    assert sums["top1"][1] == 2 * 2 * BATCH  # two steps of two draws


def test_what_programs_per_draw_return_lies_on_all_devices():
    eight = Ready("host", devices=8)
    returned = eight(eight(eight.begin())[0])
    leaves = jax.tree.leaves(returned)
    assert all(leaf.sharding.is_fully_replicated for leaf in leaves)
    assert {len(leaf.devices()) for leaf in leaves} == {8}
    assert eight.program.update._cache_size() == 1


def test_no_program_per_draw_is_compiled_while_the_clock_runs_also_not_after_a_restart(
    tmp_path, monkeypatch
):
    calls = []

    def watched(*arguments):
        program = make_program(*arguments)
        parts = (program.batch, program.gradients, program.add, program.update)

        def call(state, *rest):
            before = [part._cache_size() for part in parts]
            found = program(state, *rest)
            calls.append((int(rest[-1]), before, [part._cache_size() for part in parts]))
            return found

        return call

    monkeypatch.setattr(loop, "make_program", watched)
    with pytest.raises(Stopped):
        run(experiment("host", PHASE, SECOND), tmp_path, stop=lambda: True)
    run(experiment("host", PHASE, SECOND), tmp_path)
    # Once in each of two phases, and once after the restart.
    assert [after for n, _, after in calls if n == 0] == [[1, 2, 1, 1]] * 3
    steps = [(before, after) for n, before, after in calls if n]
    assert sum(n for n, _, _ in calls) == 2 * STEPS
    assert all(before == after for before, after in steps)
