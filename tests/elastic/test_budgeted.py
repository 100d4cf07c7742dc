"""What networks under a budget share: its draws, the scale loss, the doors of a prediction."""

import dataclasses

import chex
import families
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from programs import KEY, forward, when
from warm import SMALL, keys_of, random_batch, random_images, shapes_of, warmed

from jax_elastic.elastic.budgeted import scale_loss
from jax_elastic.elastic.family import Draw
from jax_elastic.errors import UsageError
from jax_elastic.subnet import FULL

PLAIN = families.SMALL["plain"]
SOFT = dataclasses.replace(SMALL, p=1.0)
SHARES = st.floats(0, 1, width=32)
BUDGETED = [name for name, network in families.SMALL.items() if network.budgets]
# A network for one budget draws around it.
UNIFORM = [name for name in BUDGETED if name != "urnet_fixed"]


@hypothesis.given(hnp.arrays(np.float32, (3, 5), elements=SHARES), SHARES)
def test_the_scale_loss_is_the_squared_distance_of_usage_from_the_budget(gates, budget):
    usage = gates.astype(np.float64).sum(1) / 5
    # Float32 rounding of numbers up to 1.
    np.testing.assert_allclose(scale_loss(gates, budget), (usage - budget) ** 2, atol=1e-6)


def test_the_scale_loss_is_per_sample_so_extremes_do_not_cancel():
    # One image opens everything, the other nothing: on average the budget is met.
    per_sample = scale_loss(jnp.array([[1.0, 1.0], [0.0, 0.0]]), 0.5)
    np.testing.assert_array_equal(per_sample, [0.25, 0.25])


def test_images_outside_the_mask_do_not_count():
    variables = warmed(SOFT, seed=8)
    whole, part = random_batch(8), random_batch(8)
    part["image"] = part["image"].at[6:].set(100.0)
    part["mask"] = part["mask"].at[6:].set(0)
    other = {**part, "image": whole["image"]}
    masked = forward(SOFT)(variables, part, jnp.float32(0.3), KEY)
    assert masked[1].sums["ce"][1] == masked[1].sums["usage"][1] == 6
    chex.assert_trees_all_equal(masked, forward(SOFT)(variables, other, jnp.float32(0.3), KEY))
    assert masked[0] != forward(SOFT)(variables, whole, jnp.float32(0.3), KEY)[0]


@pytest.mark.parametrize("name", UNIFORM)
@hypothesis.given(
    st.integers(0, 2**32), st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).map(tuple)
)
def test_a_step_draws_one_budget_within_the_range_from_the_generator_alone(name, seed, span):
    network = dataclasses.replace(families.SMALL[name], s_min=span[0], s_max=span[1])
    (draw,) = network.draws(np.random.default_rng(seed), when("gated"))
    (again,) = network.draws(np.random.default_rng(seed), when("gated", step=7))
    budget = draw.values["budget"]
    assert (draw.subnet, draw.where, budget.dtype) == (FULL, None, np.float32)
    # The draw is rounded to float32, as the ends are here.
    assert np.float32(span[0]) <= budget <= np.float32(span[1])
    assert again.values["budget"] == budget


def test_budgets_spread_over_the_whole_of_the_papers_range():
    rng = np.random.default_rng(0)
    budgets = [SMALL.draws(rng, when("gated"))[0].values["budget"] for _ in range(500)]
    # 500 uniform draws come within 1 % of the range of both ends, but for a chance of 1 in 100.
    assert 0.2 <= min(budgets) < 0.208
    assert 0.992 < max(budgets) <= 1


@pytest.mark.parametrize("name", BUDGETED)
def test_the_base_phase_draws_no_budget_and_leaves_the_generator_alone(name):
    rng = np.random.default_rng(0)
    (draw,) = families.SMALL[name].draws(rng, when("base"))
    assert draw == Draw(FULL)
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize("name", BUDGETED)
def test_a_prediction_without_a_budget_is_refused(name):
    network = families.SMALL[name]
    with pytest.raises(UsageError, match="needs a budget"):
        network.predict({}, random_images(2), (FULL,), None, keys_of(network, 2))


@pytest.mark.parametrize("name", [name for name in BUDGETED if families.SMALL[name].random])
def test_a_prediction_of_random_gates_without_keys_is_refused(name):
    with pytest.raises(UsageError, match=r"gates of this network are random; keys \(B,\)"):
        families.SMALL[name].predict({}, random_images(2), (FULL,), 0.6)


@pytest.mark.parametrize(
    "span", [(0.8, 0.4), (-0.1, 1.0), (0.2, 1.1), (float("nan"), 1.0)], ids=str
)
@pytest.mark.parametrize("name", UNIFORM)
def test_budgets_that_are_no_range_are_refused(name, span):
    with pytest.raises(UsageError, match="0 <= s_min <= s_max <= 1"):
        dataclasses.replace(families.SMALL[name], s_min=span[0], s_max=span[1])


def jaxpr_of_base(network):
    """What a step without gates computes."""

    def loss(variables, batch):
        return network.loss(variables, batch, Draw(FULL), KEY, "base", "batch")

    return str(jax.make_jaxpr(loss)(shapes_of(PLAIN), random_batch(8)))


@pytest.mark.parametrize("name", [name for name in BUDGETED if name != "external"])
def test_without_gates_the_step_is_that_of_the_plain_network(name):
    # `external` has statistics beside the plain network's; it reads and moves none of them.
    assert jaxpr_of_base(families.SMALL[name]) == jaxpr_of_base(PLAIN)
