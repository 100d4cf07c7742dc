"""A family that the package has never seen goes through everything that names no family."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import CLASSES, WIDTH, Toy

from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.elastic.family import When
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.inference.engine import build_engine
from jax_elastic.subnet import Subnet
from jax_elastic.training.experiment import Experiment, Runtime
from jax_elastic.training.loop import train
from jax_elastic.training.phases import Phase
from jax_elastic.training.sum_of_grads import sum_of_grads

SHALLOW, DEEP = Subnet("depth", (1,)), Subnet("depth", (2,))
DATA = DataConfig()
BATCH, STEPS = 32, 12


def experiment(objective="both", form="sliced"):
    epochs = STEPS * BATCH / len(load(DATA, "train"))
    phase = Phase("only", epochs, objective, 0.1, batch_size=BATCH)
    runtime = Runtime(log_every=4, save_every=6)
    return Experiment(network=Toy(), phases=(phase,), data=DATA, form=form, runtime=runtime)


def trained(tmp_path, *arguments):
    return train(experiment(*arguments), tmp_path, devices=jax.devices()[:1], report=lambda _: 0)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def state(workdir):
    """Toy after a few steps in which both depths were drawn."""
    return trained(workdir)


@pytest.fixture(scope="module")
def half_trained(tmp_path_factory):
    """Toy after steps in which only depth 1 was drawn."""
    return trained(tmp_path_factory.mktemp("shallow"), "shallow").variables


@pytest.fixture(scope="module")
def validation():
    return load(DATA, "validation")


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(3), (16, 8, 8, 1))


def counts(variables):
    stats = variables["stats"]
    return np.asarray(stats["stem"]["bn"]["count"]), int(stats["head"]["bn"]["count"])


def test_an_unknown_family_trains_and_each_step_counts_once_in_a_shared_norm(state):
    banks, shared = counts(state.variables)
    assert int(state.step) == STEPS
    np.testing.assert_array_equal(banks, [STEPS, STEPS])
    assert shared == STEPS


def test_a_depth_that_is_never_drawn_leaves_its_bank_at_count_zero(half_trained):
    banks, shared = counts(half_trained)
    np.testing.assert_array_equal(banks, [STEPS, 0])
    assert shared == STEPS


def test_the_loop_trains_an_unknown_family_to_the_same_network_in_either_form(state, tmp_path):
    scanned = trained(tmp_path, "both", "scan_switch")
    # Float32 sums in another order, grown over 12 steps of momentum.
    chex.assert_trees_all_close(scanned.variables, state.variables, rtol=1e-3, atol=1e-4)


def test_a_finished_run_is_restored_bit_for_bit(workdir, state):
    lines = []
    again = train(experiment(), workdir, devices=jax.devices()[:1], report=lines.append)
    chex.assert_trees_all_equal(again, state)
    assert lines[0] == f"resuming at step {STEPS} of {STEPS}"


def test_the_moments_of_two_draws_are_one_update_each_of_their_own_bank():
    toy, key = Toy(), jax.random.key(0)
    images = jax.random.normal(key, (BATCH, 8, 8, 1))
    targets = jax.nn.one_hot(jnp.arange(BATCH) % CLASSES, CLASSES)
    batch = {"image": images, "targets": (targets,), "mask": jnp.ones(BATCH)}
    when = When(0, 0.0, "only", 0, 0.0, STEPS, "both")
    draws = toy.draws(np.random.default_rng(0), when)
    variables = jax.jit(toy.init)(key, images)

    def loss(params, draw, slot):
        both = {"params": params, "stats": variables["stats"]}
        return toy.loss(both, batch, draw, jax.random.fold_in(key, slot), "both", "batch")

    run = jax.jit(lambda: sum_of_grads(loss, variables["params"], draws, "sliced", toy.subnets))
    (_, aux), _ = run()
    np.testing.assert_array_equal(aux.moments["stem"]["bn"]["n"], [1, 1])
    assert aux.moments["head"]["bn"]["n"] == 2
    assert aux.sums["top1"][1] == 2 * BATCH


def test_the_evaluator_reports_every_operating_point_of_an_unknown_family(state, validation):
    evaluate = Evaluator(Toy(), validation, DATA, subnets=[SHALLOW, DEEP])
    shallow, deep = evaluate(state.variables).rows
    assert [shallow["subnet"], deep["subnet"]] == ["depth:1", "depth:2"]
    assert shallow["n"] == deep["n"] == len(validation)
    assert (shallow["blocks_total"], deep["blocks_total"]) == (None, 1)
    # Ten balanced classes: a network that learnt nothing stays near 0.1.
    assert min(shallow["top1"], deep["top1"]) > 0.3
    assert deep["macs_mean"] > shallow["macs_mean"]


def test_the_cost_of_an_unknown_family_is_the_sum_of_its_matrices():
    costs = CostModel(Toy(), (8, 8, 1))
    stem, head = 64 * WIDTH, WIDTH * CLASSES
    shallow, deep = costs.cost(SHALLOW), costs.cost(DEEP)
    assert (shallow.fixed, shallow.blocks, shallow.gates) == (stem + head, (), 0)
    assert (deep.fixed, deep.blocks, deep.gates) == (stem + head, (WIDTH**2,), WIDTH)


def test_an_operating_point_counts_the_parameters_of_its_own_bank_only():
    # Dense, one bank of scale and bias, shared norm, classifier.
    shared = (64 + 1) * WIDTH + 2 * WIDTH + 2 * WIDTH + (WIDTH + 1) * CLASSES
    block = (WIDTH + 1) * WIDTH + (WIDTH + 1)
    costs = CostModel(Toy(), (8, 8, 1))
    assert costs.params(SHALLOW)["params"] == shared
    assert costs.params(DEEP)["params"] == shared + block


def test_the_masked_engine_obeys_gates_that_are_given_to_it(state, images):
    engine = build_engine(Toy(), state.variables, "masked")
    free = engine(images, DEEP)
    half = jnp.arange(len(images))[:, None] % 2 == 0
    mixed = engine(images, DEEP, gates=half).logits[0]
    opened = engine(images, DEEP, gates=jnp.ones_like(half)).logits[0]
    closed = engine(images, DEEP, gates=jnp.zeros_like(half)).logits[0]
    np.testing.assert_array_equal(mixed, np.where(half, opened, closed))
    assert np.abs(opened - closed).max() > 1e-3
    np.testing.assert_array_equal(free.gates, engine(images, DEEP, gates=half).gates)


def test_the_evaluator_refuses_a_depth_that_was_never_trained(half_trained, validation):
    evaluate = Evaluator(Toy(), validation, DATA, subnets=[DEEP])
    with pytest.raises(UsageError, match=r"depth:2 uses BN statistics .* recalibrate .*depth:2"):
        evaluate(half_trained)


def test_the_engine_refuses_a_depth_that_was_never_trained(half_trained, images):
    with pytest.raises(UsageError, match=r"depth:2 uses BN statistics .* recalibrate .*depth:2"):
        build_engine(Toy(), half_trained)  # prepares the fullest
    engine = build_engine(Toy(), half_trained, "masked", [SHALLOW])
    assert engine(images, SHALLOW).logits[0].shape == (len(images), CLASSES)
    with pytest.raises(UsageError, match=r"depth:2 uses BN statistics .* recalibrate .*depth:2"):
        engine(images, DEEP)
