"""BN whose moments add up: one pass is Flax's BatchNorm, several passes are one update."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_elastic.layers.norm import EPSILON, MOMENTUM, BatchNorm, complete_moments, fold, pool


def images(seed=0, channels=3):
    """Activations whose channels have other means and deviations than 0 and 1."""
    x = np.random.default_rng(seed).normal(size=(4, 5, 6, channels))
    return jnp.asarray(x * (1 + np.arange(channels)) - np.arange(channels), jnp.float32)


def disturbed(variables):
    """The same tree with other parameters and statistics than a fresh layer's; counts stay."""
    leaves, structure = jax.tree.flatten(variables)
    rng = np.random.default_rng(1)
    new = [
        leaf
        if leaf.dtype == jnp.int32
        else jnp.asarray(rng.uniform(0.5, 2, leaf.shape), jnp.float32)
        for leaf in leaves
    ]
    return jax.tree.unflatten(structure, new)


def make(banks=None, channels=3):
    """A layer and disturbed variables for it."""
    layer = BatchNorm(banks)
    bank = None if banks is None else 0
    variables = layer.init(jax.random.key(0), jnp.ones((1, channels)), "running", bank)
    return layer, disturbed(variables)


def train(layer, variables, x, bank=None):
    """One pass in training: output and moments."""
    out, sown = layer.apply(variables, x, "batch", bank, mutable=["moments"])
    return out, sown["moments"]


class TwoCalls(nn.Module):
    """One layer that a network runs twice."""

    @nn.compact
    def __call__(self, x, y):
        bn = BatchNorm(name="bn")
        return bn(x, "batch"), bn(y, "batch")


def test_one_pass_is_the_batch_norm_of_flax():
    layer, variables = make()
    oracle = nn.BatchNorm(
        use_running_average=False, momentum=0.9, epsilon=1e-5, use_fast_variance=False
    )
    moved = {name: variables["stats"][name] for name in ("mean", "var")}
    theirs, updated = oracle.apply(
        {"params": variables["params"], "batch_stats": moved}, images(), mutable=["batch_stats"]
    )
    ours, moments = train(layer, variables, images())
    stats = fold(variables["stats"], moments)
    # Sums of 120 float32 numbers of size 10, in another order.
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    moved = {name: stats[name] for name in ("mean", "var")}
    chex.assert_trees_all_close(moved, updated["batch_stats"], rtol=1e-5)


def test_running_statistics_normalise_as_flax_does():
    layer, variables = make()
    oracle = nn.BatchNorm(use_running_average=True, epsilon=1e-5)
    moved = {name: variables["stats"][name] for name in ("mean", "var")}
    theirs = oracle.apply({"params": variables["params"], "batch_stats": moved}, images())
    # A few float32 roundings of numbers of size 10.
    np.testing.assert_allclose(layer.apply(variables, images(), "running"), theirs, atol=1e-5)


def test_momentum_and_epsilon_are_those_of_the_specification():
    assert (MOMENTUM, EPSILON) == (0.9, 1e-5)


def test_running_mode_sows_nothing():
    layer, variables = make()
    _, sown = layer.apply(variables, images(), "running", mutable=["moments"])
    assert jax.tree.leaves(sown) == []


def test_a_forward_in_training_leaves_the_statistics_alone():
    layer, variables = make()
    _, changed = layer.apply(variables, images(), "batch", mutable=["moments", "stats"])
    chex.assert_trees_all_equal(changed["stats"], variables["stats"])


def test_two_passes_added_and_folded_once_are_one_update_with_their_mean():
    layer, variables = make()
    first, second = (train(layer, variables, images(seed))[1] for seed in (0, 1))
    stats = fold(variables["stats"], jax.tree.map(jnp.add, first, second))
    for name in ("mean", "var"):
        mean = (first[name] + second[name]) / 2
        # Three float32 roundings.
        np.testing.assert_allclose(
            stats[name], 0.9 * variables["stats"][name] + 0.1 * mean, rtol=1e-6
        )
    assert stats["count"] == 1


def test_a_layer_that_runs_twice_in_one_forward_sows_the_sum():
    x, y = images(0), images(1)
    network = TwoCalls()
    variables = network.init(jax.random.key(0), x, y)
    variables = {name: variables[name] for name in ("params", "stats")}
    _, sown = network.apply(variables, x, y, mutable=["moments"])
    parts = [train(BatchNorm(), {k: v["bn"] for k, v in variables.items()}, z)[1] for z in (x, y)]
    chex.assert_trees_all_equal(sown["moments"]["bn"], jax.tree.map(jnp.add, *parts))
    assert sown["moments"]["bn"]["n"] == 2


def test_the_count_is_the_number_of_updates_not_of_passes():
    layer, variables = make()
    moments = train(layer, variables, images())[1]
    once = fold(variables["stats"], jax.tree.map(jnp.add, moments, moments))
    assert (variables["stats"]["count"], once["count"]) == (0, 1)
    assert fold(once, moments)["count"] == 2


def test_a_fold_takes_another_momentum():
    layer, variables = make()
    moments = train(layer, variables, images())[1]
    stats = fold(variables["stats"], moments, momentum=0.0)
    np.testing.assert_array_equal(stats["mean"], moments["mean"])


@pytest.mark.parametrize("how", ["static", "traced"])
def test_only_the_bank_that_was_used_changes(how):
    layer, variables = make(banks=3)

    def step(variables, x, bank):
        out, moments = train(layer, variables, x, bank)
        return out, fold(variables["stats"], moments)

    jitted = jax.jit(step, static_argnums=() if how == "traced" else 2)
    bank = jnp.int32(1) if how == "traced" else 1
    out, stats = jitted(variables, images(), bank)
    single = jax.tree.map(lambda leaf: leaf[1], variables)
    expected, moments = train(BatchNorm(), single, images())
    # The same operations, compiled together; numbers of size 10.
    np.testing.assert_allclose(out, expected, atol=1e-5)
    of_bank = jax.tree.map(lambda leaf: leaf[1], stats)
    chex.assert_trees_all_close(of_bank, fold(single["stats"], moments), rtol=1e-6)
    others = [jax.tree.map(lambda leaf: leaf[::2], tree) for tree in (stats, variables["stats"])]
    chex.assert_trees_all_equal(*others)
    np.testing.assert_array_equal(stats["count"], [0, 1, 0])


def test_passes_over_different_banks_are_one_update_of_each():
    layer, variables = make(banks=3)
    moments = [train(layer, variables, images(bank), bank)[1] for bank in (0, 2)]
    stats = fold(variables["stats"], jax.tree.map(jnp.add, *moments))
    np.testing.assert_array_equal(stats["count"], [1, 0, 1])
    alone = fold(variables["stats"], moments[1])
    np.testing.assert_array_equal(stats["var"][2], alone["var"][2])


def test_running_mode_reads_the_parameters_and_statistics_of_its_bank():
    layer, variables = make(banks=3)
    single = jax.tree.map(lambda leaf: leaf[2], variables)
    banked = layer.apply(variables, images(), "running", 2)
    np.testing.assert_array_equal(banked, BatchNorm().apply(single, images(), "running"))


@pytest.mark.parametrize("banks,bank", [(None, 0), (3, None)])
def test_a_bank_is_given_exactly_where_there_are_banks(banks, bank):
    layer, variables = make(banks)
    with pytest.raises(ValueError, match=f"banks={banks} was called with bank={bank}"):
        layer.apply(variables, images(), "running", bank)


@pytest.mark.parametrize("bank", [-1, 3, 7])
def test_a_bank_that_is_not_there_is_refused(bank):
    layer, variables = make(banks=3)
    with pytest.raises(ValueError, match=f"bank {bank} is not one of 3"):
        layer.apply(variables, images(), "running", bank)


def test_complete_moments_are_zero_where_a_layer_did_not_run():
    layer, variables = make()
    _, banked = make(banks=2)
    stats = {"ran": variables["stats"], "deep": {"idle": banked["stats"]}, "p_max": jnp.ones(())}
    moments = train(layer, variables, images())[1]
    complete = complete_moments(stats, {"ran": moments})
    zero, hot = jnp.zeros((2, 3)), jnp.zeros(2, jnp.int32)
    expected = {"ran": moments, "deep": {"idle": {"mean": zero, "var": zero, "n": hot}}}
    chex.assert_trees_all_equal(complete, expected)
    chex.assert_trees_all_equal_dtypes(complete, expected)


def test_no_moments_at_all_complete_to_zeros_and_fold_to_the_same_statistics():
    _, variables = make()
    stats = {"bn": variables["stats"]}
    chex.assert_trees_all_equal(fold(stats, complete_moments(stats, None)), stats)


def test_other_statistics_than_those_of_bn_survive_a_fold():
    layer, variables = make()
    stats = {"bn": variables["stats"], "p_max": jnp.float32(0.3), "other": {"level": jnp.ones(2)}}
    moments = complete_moments(stats, {"bn": train(layer, variables, images())[1]})
    folded = fold(stats, moments)
    kept = {name: folded[name] for name in ("p_max", "other")}
    chex.assert_trees_all_equal(kept, {name: stats[name] for name in ("p_max", "other")})
    assert folded["bn"]["count"] == 1


@pytest.mark.parametrize("bn", ["batch", "running"])
def test_bfloat16_activations_stay_so_while_their_moments_are_float32(bn):
    layer, variables = make()
    narrow = images().astype(jnp.bfloat16)
    out, sown = layer.apply(variables, narrow, bn, mutable=["moments"])
    wide, wide_sown = layer.apply(variables, narrow.astype(jnp.float32), bn, mutable=["moments"])
    assert out.dtype == jnp.bfloat16
    # Computed in float32 and rounded once at the end.
    np.testing.assert_array_equal(out, wide.astype(jnp.bfloat16))
    chex.assert_trees_all_equal(sown, wide_sown)


def test_moments_of_a_far_mean_do_not_cancel():
    layer, variables = make(channels=1)
    x = jnp.asarray([[3000.0], [3001.0], [3002.0], [3003.0]])
    moments = train(layer, variables, x)[1]
    # Exact in two passes; E[x^2] - E[x]^2 in float32 would be off by about 1.
    assert (moments["mean"][0], moments["var"][0]) == (3001.5, 1.25)


class BatchNormVariantsTest(chex.TestCase):
    """chex's variants run one test with and without jit."""

    @chex.variants(with_jit=True, without_jit=True)
    def test_normalised_activations_have_the_bias_and_scale_as_mean_and_deviation(self):
        layer, variables = make()
        out, _ = self.variant(lambda v, x: train(layer, v, x))(variables, images())
        # Epsilon is 1e-5 of a variance of 1 or more, the rest are roundings.
        np.testing.assert_allclose(out.mean((0, 1, 2)), variables["params"]["bias"], atol=1e-4)
        np.testing.assert_allclose(out.std((0, 1, 2)), variables["params"]["scale"], rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 4], ids="batches of {}".format)
def test_pooled_moments_are_those_of_all_images_whatever_the_batches(size):
    layer, variables = make()
    x = np.asarray(images(), np.float64)
    batches = [x[start : start + size] for start in range(0, len(x), size)]
    pooled = pool(train(layer, variables, jnp.asarray(batch))[1] for batch in batches)
    assert pooled["n"] == len(batches)
    # Each batch's moments are float32.
    np.testing.assert_allclose(pooled["mean"] / pooled["n"], x.mean((0, 1, 2)), 1e-5)
    np.testing.assert_allclose(pooled["var"] / pooled["n"], x.var((0, 1, 2)), 1e-5)


def test_pooled_moments_of_a_bank_that_no_batch_reached_are_zero():
    layer, variables = make(2)
    pooled = pool(train(layer, variables, images(i), 1)[1] for i in range(3))
    np.testing.assert_array_equal(pooled["n"], [0, 3])
    assert not pooled["mean"][0].any() and not pooled["var"][0].any()


def test_without_momentum_a_fold_forgets_even_what_is_not_finite():
    layer, variables = make()
    moments = train(layer, variables, images())[1]
    broken = {**variables["stats"], "mean": jnp.full(3, jnp.nan), "var": jnp.full(3, jnp.inf)}
    found = fold(broken, moments, momentum=0)
    np.testing.assert_array_equal(found["mean"], moments["mean"])
    np.testing.assert_array_equal(found["var"], moments["var"])
