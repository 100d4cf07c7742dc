"""Block attention: sigmoids as weights at test, and with random drops (the paper's B/A)."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import (
    KEY,
    forward,
    has_gradient,
    mean_of,
    value_aux_and_gradients,
    when,
)
from warm import BACKBONE, SMALL, keys_of, random_batch, random_images, warmed, with_gate_logits

from jax_elastic.elastic.budgeted import scale_loss
from jax_elastic.elastic.losses import cross_entropy
from jax_elastic.elastic.urnet.soft import SoftDrop, URNetSoft
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.subnet import FULL

SOFT = URNetSoft(BACKBONE)
SG = dataclasses.replace(SMALL, p=1.0)
DROP = SoftDrop(BACKBONE)
IMAGES = random_images(8)
ALL_KEPT = np.ones((8, 5), np.float32)


@pytest.fixture(scope="module")
def variables():
    """Of URNet, and so of all networks here."""
    return warmed(SMALL, seed=8)


@functools.cache
def program(network):
    return jax.jit(network.predict, static_argnums=2)


def predict(network, variables, budget=0.5, keys=None):
    (found,) = program(network)(variables, IMAGES, (FULL,), np.float32(budget), keys)
    return found


def assert_close(ours, theirs):
    # Two programs in float32; relative to the largest number.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def as_it_is(gates):
    return gates


# Block attention without drops


@functools.partial(jax.jit, static_argnums=2)
def block_by_block(variables, budget, gate_of, kept=ALL_KEPT):
    """The network made of its blocks' own parts.

    `gate_of` makes gates of their probabilities; those that are not `kept` (B, N) are 0.
    """
    stem, *blocks, head = SMALL.segments(FULL)
    x = stem.code.open(stem.take(variables), {"image": IMAGES})["x"]
    gates = []
    for segment, column in zip(blocks, kept.T, strict=True):
        own, block = segment.take(variables), segment.code.block
        probability = jax.nn.sigmoid(block.apply(own, x, budget, method="gate_logits"))
        gates.append(column * gate_of(probability))
        residual = block.apply(own, x, "running", method="residual")
        shortcut = block.apply(own, x, "running", method="shortcut")
        x = jax.nn.relu(shortcut + gates[-1][:, None, None, None] * residual)
    return head.code.open(head.take(variables), {"x": x})["logits"][0], jnp.stack(gates, 1)


def test_a_prediction_weighs_every_block_by_its_sigmoid_and_decides_nothing(variables):
    logits, sigmoids = block_by_block(variables, np.float32(0.5), as_it_is)
    found = predict(SOFT, variables)
    assert_close(found.logits[0], logits)
    assert_close(found.weights, sigmoids)
    assert found.gates is None


def test_rounding_its_gates_gives_the_network_trained_alike_with_hard_gates(variables):
    logits, gates = block_by_block(variables, np.float32(0.5), jnp.round)
    hard = predict(SG, variables)
    assert 0 < gates.mean() < 1
    np.testing.assert_array_equal(hard.gates >= 0, gates)
    assert_close(hard.logits[0], logits)
    assert np.abs(hard.logits[0] - predict(SOFT, variables).logits[0]).max() > 1e-2


def test_the_forward_of_test_is_that_of_training(variables):
    batch = random_batch(8)
    _, aux = forward(SG)(variables, batch, np.float32(0.5), KEY)
    found = predict(SOFT, variables)
    ce = cross_entropy(found.logits[0], batch["targets"][0]).mean()
    assert_close(mean_of(aux.sums, "ce"), float(ce))
    assert_close(mean_of(aux.sums, "scale_loss"), float(scale_loss(found.weights, 0.5).mean()))


def test_its_training_step_is_that_of_urnet_with_p_one_to_the_bit(variables):
    ours, theirs = (value_aux_and_gradients(variables, network) for network in (SOFT, SG))
    chex.assert_trees_all_equal(ours, theirs)


@pytest.mark.parametrize("objective", SG.objectives)
@pytest.mark.parametrize("seed", range(3))
def test_its_draws_are_those_of_urnet_with_p_one(seed, objective):
    assert SOFT.objectives == SG.objectives
    ours, theirs = (
        network.draws(np.random.default_rng(seed), when(objective)) for network in (SOFT, SG)
    )
    assert ours == theirs


def test_it_is_trained_with_p_one_unless_told_otherwise():
    assert SOFT.p == 1.0


def test_nothing_of_it_can_be_skipped_and_it_costs_all_of_urnet():
    cost, whole = (CostModel(network, (8, 8, 3)).cost(FULL) for network in (SOFT, SMALL))
    assert cost == (whole.full, (), 0)


# With random drops


def test_a_network_that_keeps_every_block_is_block_attention(variables):
    found, soft = predict(DROP, variables, 1.0, keys_of(DROP, 8)), predict(SOFT, variables, 1.0)
    assert (found.gates >= 0).all()
    assert_close(found.logits[0], soft.logits[0])
    assert_close(found.weights, soft.weights)


def test_a_network_that_keeps_none_is_its_stem_its_shortcuts_and_its_head(variables):
    logits, _ = block_by_block(variables, np.float32(0.0), as_it_is, np.zeros((8, 5), np.float32))
    found = predict(DROP, variables, 0.0, keys_of(DROP, 8))
    assert (found.gates < 0).all()
    assert_close(found.logits[0], logits)


def test_a_block_is_multiplied_by_its_sigmoid_if_it_is_kept_and_else_by_zero(variables):
    keys = keys_of(DROP, 8)
    decided = with_gate_logits(SMALL, variables, [0.0, 1.0, -1.0, 2.0, -2.0])
    found = predict(DROP, decided, 0.5, keys)
    kept = np.asarray(found.gates >= 0, np.float32)
    logits, _ = block_by_block(decided, np.float32(0.5), as_it_is, kept)
    assert 0 < kept.mean() < 1
    sigmoids = jax.nn.sigmoid(jnp.array([0.0, 1.0, -1.0, 2.0, -2.0]))
    np.testing.assert_allclose(found.weights, np.tile(sigmoids, (8, 1)), rtol=1e-6)
    assert_close(found.logits[0], logits)


def test_which_blocks_are_kept_depends_on_the_key_and_not_on_the_gates(variables):
    keys = keys_of(DROP, 8)
    free = predict(DROP, variables, 0.5, keys)
    decided = predict(DROP, with_gate_logits(SMALL, variables, [-9.0] * 5), 0.5, keys)
    np.testing.assert_array_equal(free.gates, decided.gates)


def test_the_budget_is_what_the_gates_see_too(variables):
    low, high = (predict(DROP, variables, s, keys_of(DROP, 8)).weights for s in (0.3, 0.9))
    # The first gate sees the stem, whatever was dropped.
    assert (low[:, 0] != high[:, 0]).all()


def test_a_dropped_block_that_overflows_does_not_reach_the_output(variables):
    scale = variables["params"]["stage1"]["blocks"]["bn2"]["scale"]
    params = jax.tree.map(lambda leaf: leaf, variables["params"])
    params["stage1"]["blocks"]["bn2"]["scale"] = scale.at[1].set(jnp.inf)
    keys = keys_of(DROP, 8)
    clean = predict(DROP, variables, 0.5, keys)
    found = predict(DROP, {"params": params, "stats": variables["stats"]}, 0.5, keys)
    dropped = np.asarray(clean.gates[:, 1] < 0)
    assert 0 < dropped.sum() < 8
    np.testing.assert_array_equal(found.logits[0][dropped], clean.logits[0][dropped])
    assert not np.isfinite(found.logits[0][~dropped]).any()


def test_the_loss_with_drops_has_no_scale_loss_and_trains_every_parameter(variables):
    value, aux, gradients = value_aux_and_gradients(variables, DROP)
    assert float(value) == mean_of(aux.sums, "ce")
    assert 0 < mean_of(aux.sums, "usage") < 1
    chex.assert_tree_all_finite(gradients)
    assert all(has_gradient(gradients))


def test_the_scale_loss_that_is_shown_is_that_of_the_sigmoids_of_kept_blocks(variables):
    undecided = with_gate_logits(SMALL, variables, [0.0] * 5)
    _, aux, _ = value_aux_and_gradients(undecided, DROP)
    kept = predict(DROP, undecided, 0.5, jax.random.split(KEY, 8)).gates >= 0
    expected = np.square(0.5 * kept.mean(1) - 0.5).mean()
    # Float32 rounding of a mean of eight.
    assert mean_of(aux.sums, "scale_loss") == pytest.approx(expected, rel=1e-6)
