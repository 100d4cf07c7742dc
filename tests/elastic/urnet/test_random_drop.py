"""Random drop: each block of each image is kept with probability S, by the image's key alone."""

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from programs import KEY, forward, has_gradient, mean_of, value_aux_and_gradients
from warm import BACKBONE, keys_of, random_batch, random_images, shapes_of, warmed

from jax_elastic.elastic.losses import cross_entropy
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.urnet.random_drop import RandomDrop
from jax_elastic.errors import UsageError
from jax_elastic.inference.engine import build_engine
from jax_elastic.subnet import FULL

NETWORK = RandomDrop(BACKBONE)
SHARES = st.floats(0, 1, width=32)
MANY = 2000


@pytest.fixture(scope="module")
def variables():
    return warmed(NETWORK, seed=8)


predict = jax.jit(NETWORK.predict, static_argnums=2)


@jax.jit
def plan(keys, budget):
    """The kept blocks, bool (B, 5), as the plan's segment draws them."""
    segment = NETWORK.plan_segment()
    budgets = jnp.broadcast_to(budget, keys.shape)
    return segment.code.open({}, {"key": keys, "budget": budgets})["plan"] >= 0


@hypothesis.given(SHARES)
def test_the_share_of_kept_blocks_is_the_budget(budget):
    kept = plan(jax.random.split(KEY, MANY), np.float32(budget))
    # Five standard errors of a share over 10,000 draws, at most 0.5 / 100 each.
    assert float(kept.mean()) == pytest.approx(budget, abs=0.025)


@pytest.mark.parametrize("budget,kept", [(0.0, False), (1.0, True)])
def test_everything_is_kept_at_one_and_nothing_at_zero(budget, kept):
    assert (plan(jax.random.split(KEY, MANY), np.float32(budget)) == kept).all()


def test_each_image_and_each_block_is_drawn_by_itself():
    kept = np.asarray(plan(jax.random.split(KEY, MANY), np.float32(0.5)))
    patterns = np.bincount(kept @ (1 << np.arange(5)), minlength=32)
    # Independent draws make all 32 patterns as likely; five standard deviations of a count.
    expected = MANY / 32
    np.testing.assert_allclose(patterns, expected, atol=5 * np.sqrt(expected * 31 / 32))


@hypothesis.given(st.permutations(range(16)), SHARES)
def test_what_an_image_drops_depends_on_its_key_and_not_on_its_place(order, budget):
    keys, order = jax.random.split(KEY, 16), np.array(order)
    ours, theirs = plan(keys[order], np.float32(budget)), plan(keys, np.float32(budget))
    np.testing.assert_array_equal(ours, theirs[order])


@pytest.mark.parametrize("size", [1, 7])
def test_what_an_image_drops_does_not_depend_on_the_size_of_its_batch(size):
    keys = jax.random.split(KEY, 16)
    few, all_of_them = plan(keys[:size], np.float32(0.5)), plan(keys, np.float32(0.5))
    np.testing.assert_array_equal(few, all_of_them[:size])


@hypothesis.given(st.tuples(SHARES, SHARES).map(sorted))
def test_a_block_kept_at_a_budget_is_kept_at_every_greater_one(budgets):
    low, high = (plan(jax.random.split(KEY, 16), np.float32(budget)) for budget in budgets)
    assert (low <= high).all()


def test_a_prediction_says_what_was_kept_and_weighs_nothing(variables):
    keys = keys_of(NETWORK, 8)
    (found,) = predict(variables, random_images(8), (FULL,), np.float32(0.5), keys)
    np.testing.assert_array_equal(found.gates >= 0, plan(keys, np.float32(0.5)))
    assert found.weights is None


def test_images_that_change_places_with_their_keys_change_places_in_the_prediction(variables):
    keys, images, order = keys_of(NETWORK, 8), random_images(8), np.arange(8)[::-1]
    ours, theirs = (
        predict(variables, images[o], (FULL,), np.float32(0.5), keys[o])[0]
        for o in (order, np.arange(8))
    )
    # The same program; sums over a batch's rows may be vectorised in another order.
    np.testing.assert_allclose(ours.logits[0], theirs.logits[0][order], rtol=1e-5, atol=1e-5)


def test_the_loss_is_the_cross_entropy_of_the_network_with_the_same_drops(variables):
    batch, budget = random_batch(8), np.float32(0.5)
    value, aux = forward(NETWORK)(variables, batch, budget, KEY)
    keys = jax.random.split(KEY, 8)
    (found,) = predict(variables, batch["image"], (FULL,), budget, keys)
    expected = cross_entropy(found.logits[0], batch["targets"][0]).mean()
    assert float(value) == mean_of(aux.sums, "ce")
    # Two programs; float32 sums of eight.
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    assert mean_of(aux.sums, "usage") == pytest.approx(float((found.gates >= 0).mean()))


def test_training_with_drops_trains_every_parameter(variables):
    _, aux, gradients = value_aux_and_gradients(variables, NETWORK)
    assert 0 < mean_of(aux.sums, "usage") < 1
    chex.assert_tree_all_finite(gradients)
    assert all(has_gradient(gradients))


def test_its_variables_are_those_of_the_plain_network():
    chex.assert_trees_all_equal(shapes_of(NETWORK), shapes_of(Plain(BACKBONE)))


@pytest.fixture(scope="module")
def engine(variables):
    return build_engine(NETWORK, variables, "masked")


def test_an_engine_with_the_same_keys_predicts_the_same(variables, engine):
    keys, images = keys_of(NETWORK, 8), random_images(8)
    (expected,) = predict(variables, images, (FULL,), np.float32(0.5), keys)
    found = engine(images, budget=0.5, keys=keys)
    np.testing.assert_array_equal(found.gates, expected.gates)
    # Two programs; float32 rounding relative to logits of size 1.
    np.testing.assert_allclose(found.logits[0], expected.logits[0], rtol=1e-5, atol=1e-5)


def test_an_engine_with_other_keys_drops_other_blocks(engine):
    one, other = (
        engine(random_images(8), budget=0.5, keys=keys_of(NETWORK, 8, seed)) for seed in (0, 1)
    )
    assert (one.gates != other.gates).any()


@pytest.mark.parametrize("count", [7, 9])
def test_an_engine_refuses_keys_that_are_not_one_per_image(engine, count):
    with pytest.raises(UsageError, match=rf"keys have shape \({count},\); .* random; pass .*, 8\)"):
        engine(random_images(8), budget=0.5, keys=keys_of(NETWORK, count))
