"""What SGAD expects to be dropped: its part of the loss, and the p_max that may move."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import KEY, forward, mean_of
from small_sgad import NETWORK, TINY
from thorough import thorough
from warm import random_batch, random_images, shapes_of, warmed

from jax_elastic.elastic.family import Aux
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.sgad.guideline import expected_drop, sureness
from jax_elastic.elastic.sgad.sgad import MOST, P_MAX, SGNET
from jax_elastic.elastic.train_only import TRAIN_ONLY, without_train_only
from jax_elastic.errors import UsageError
from jax_elastic.subnet import FULL
from jax_elastic.training.checkpoint import leaves_by_path

CONSTANT = dataclasses.replace(NETWORK, guideline="constant", p_max=0.5)
ADAPTIVE = dataclasses.replace(CONSTANT, wanted=0.6, wanted_rate=0.1)


@pytest.fixture(scope="module")
def variables():
    return warmed(NETWORK, seed=8)


def reaching(p_max, variables):
    """The weights without SGNet, in a training that moved p_max so far."""
    served = without_train_only(variables)
    return {**served, "stats": {**served["stats"], TRAIN_ONLY: {P_MAX: jnp.float32(p_max)}}}


def sums_of(network, variables):
    """The loss of a batch of noise, and its sums."""
    program = forward(network, "guided", "batch", "sigma")
    value, aux = program(variables, random_batch(8), jnp.float32(1), KEY)
    return float(value), aux.sums


GUIDELINES = thorough(["concave", "constant", "none"], "concave".__eq__)


@pytest.mark.parametrize("guideline", GUIDELINES)
def test_the_loss_is_the_weighted_sum_of_its_parts(guideline, variables):
    network = dataclasses.replace(NETWORK, guideline=guideline)

    value, sums = sums_of(network, variables if network.sgnet else without_train_only(variables))

    parts = {"ce": 2.0}
    parts |= {} if guideline == "none" else {"loss_b": 3.0}
    parts |= {"loss_s": 0.5} if network.sgnet else {}
    # Float32 rounding of a sum of eight.
    expected = sum(weight * mean_of(sums, name) for name, weight in parts.items())
    assert value == pytest.approx(expected, rel=1e-6)
    assert {"loss_b", "loss_s"} & set(sums) == set(parts) - {"ce"}


def test_what_is_expected_at_test_is_what_sgnet_would_answer(variables):
    images = random_images(8)
    own = {name: variables[name][TRAIN_ONLY][SGNET] for name in variables}
    predict = jax.jit(Plain(TINY.resnet8()).predict, static_argnums=2)

    found = jax.jit(NETWORK.expected)(variables, images)

    (answer,) = predict(own, images, (FULL,), None)
    expected = expected_drop(sureness(answer.logits[0], 2.0), NETWORK.p_max, "concave")
    # Float32 rounding in two programs.
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_constant_expectation_asks_nobody(variables):
    served, images = without_train_only(variables), random_images(8)

    np.testing.assert_array_equal(CONSTANT.expected(served, images), np.full(8, 0.5, np.float32))
    reached = ADAPTIVE.expected(reaching(0.7, variables), images)
    np.testing.assert_array_equal(reached, np.full(8, 0.7, np.float32))


@pytest.mark.parametrize("network", [NETWORK, ADAPTIVE], ids=["sgnet", "p_max"])
def test_an_expectation_needs_what_it_reads(network, variables):
    with pytest.raises(UsageError, match=r"train_only, .* is not among these variables; load"):
        network.expected(without_train_only(variables), random_images(2))


def test_an_expectation_needs_a_guideline(variables):
    with pytest.raises(UsageError, match=r"none expects nothing .*; a network of another"):
        dataclasses.replace(NETWORK, guideline="none").expected(variables, random_images(2))


def test_what_was_reached_of_a_wanted_share_is_told_in_each_step(variables):
    _, sums = sums_of(ADAPTIVE, reaching(0.7, variables))

    assert mean_of(sums, P_MAX) == mean_of(sums, "expected") == pytest.approx(0.7, rel=1e-6)
    # Two of the three blocks can be dropped.
    ran = 1 - 2 / 3 * mean_of(sums, "dropped")
    assert mean_of(sums, "ran") == pytest.approx(ran, rel=1e-6)


def after_step(p_max, ran):
    """The p_max after a step in which such a share of blocks ran."""
    stats = {TRAIN_ONLY: {P_MAX: jnp.float32(p_max)}}
    sums = {"ran": (8 * jnp.float32(ran), jnp.float32(8))}
    return ADAPTIVE.fold(stats, Aux({TRAIN_ONLY: {}}, sums))[TRAIN_ONLY][P_MAX]


@pytest.mark.parametrize(
    "before,ran,after",
    [
        *((0.5, 1.0, 0.54), (0.5, 0.6, 0.5), (0.5, 1 / 3, 0.5 - 0.1 * (0.6 - 1 / 3))),
        *((0.98, 1.0, MOST), (MOST, 1.0, MOST), (0.01, 1 / 3, 0.0), (0.0, 1 / 3, 0.0)),
    ],
)
def test_p_max_goes_up_where_more_blocks_run_than_are_wanted_from_0_to_the_most(before, ran, after):
    assert float(after_step(before, ran)) == pytest.approx(after, abs=1e-6)


@pytest.mark.parametrize(
    "dropped,p_max,ran",
    [(1.0, 0.6, 0.6), (0.7, 0.6 / 0.7, 0.6), (0.5, MOST, 1 - 2 / 3 * 0.5 * MOST)],
    ids=["as expected", "less than expected", "too little"],
)
def test_a_wanted_share_is_reached_where_gates_can_follow_and_p_max_ends_at_the_most_elsewhere(
    dropped, p_max, ran
):
    """A network that drops such a part of what is expected."""

    def run(reached):
        return 1 - 2 / 3 * dropped * reached

    @jax.jit
    def trained(start):
        return jax.lax.fori_loop(0, 400, lambda _, p: after_step(p, run(p)), start)

    reached = trained(jnp.float32(0.1))

    # It comes nearer by 1 - .1 * 2/3 * .7 in a step at least: 1e-8 after 400.
    assert float(reached) == pytest.approx(p_max, abs=1e-5)
    assert float(run(reached)) == pytest.approx(ran, abs=1e-5)


def test_a_p_max_that_moves_begins_anew_in_every_run():
    paths = leaves_by_path(shapes_of(ADAPTIVE))

    assert ADAPTIVE.begins_anew == tuple(path for path in paths if path.endswith(P_MAX))
    assert len(ADAPTIVE.begins_anew) == 1
    assert CONSTANT.begins_anew == ()


def test_the_rest_of_the_statistics_is_folded_as_without_a_wanted_share():
    ones = {"mean": jnp.ones(3), "var": jnp.ones(3)}
    stats = {"stem": {"bn": {**ones, "count": jnp.int32(1)}}}
    moments = {"stem": {"bn": {**ones, "n": jnp.int32(2)}}}
    sums = {"ran": (jnp.float32(8), jnp.float32(8))}

    plain = CONSTANT.fold(stats, Aux(moments, {}))
    moved = ADAPTIVE.fold(
        {**stats, TRAIN_ONLY: {P_MAX: jnp.float32(0.5)}}, Aux({**moments, TRAIN_ONLY: {}}, sums)
    )

    assert plain["stem"]["bn"]["count"] == 2
    chex.assert_trees_all_equal(without_train_only({"stats": moved})["stats"], plain)
