"""A bank of BN layers is a plain network's variables, and what that sows moves this bank only."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.plain import Plain
from jax_elastic.layers.banks import bank, fill_bank, in_bank, make_banks
from jax_elastic.layers.norm import BatchNorm, complete_moments, fold

# A stack of two blocks, a first block alone, and a stem.
NET = ResNet((2, 1), width=4, classes=5)
BANKS = 3
HOW = [pytest.param(int, id="static"), pytest.param(jnp.int32, id="traced")]


def plain():
    return warm.random_weights(Plain(NET))


def with_unequal_banks():
    """Variables whose banks differ in every number of parameters and statistics."""

    def shift(path, leaf):
        if leaf.ndim < 2 or path[-1].key not in ("scale", "bias", "mean", "var"):
            return leaf
        return leaf + jnp.arange(BANKS, dtype=leaf.dtype)[:, None]

    return jax.tree_util.tree_map_with_path(shift, make_banks(plain(), BANKS))


@jax.jit
def run(variables):
    """Logits and moments of a plain network in training."""
    images = jnp.asarray(warm.random_images(4))
    (logits, _), sown = NET.module().apply(variables, images, "batch", mutable=["moments"])
    return logits[0], sown["moments"]


def bn_leaves(variables, take):
    """The leaves of all BN layers, one bank taken out of each by `take`; by path."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        if any(getattr(key, "key", "").startswith("bn") for key in path):
            axis = -1 if path[-1].key in ("count", "n") else -2
            found[jax.tree_util.keystr(path)] = take(leaf, axis)
    return found


def only(index):
    return lambda leaf, axis: jnp.take(leaf, index, axis)


def all_but(index):
    return lambda leaf, axis: jnp.delete(leaf, index, axis)


@pytest.mark.parametrize(
    "layer,lead",
    [(("stem", "bn"), ()), (("stage1", "blocks", "bn1"), (2,))],
    ids=["alone", "stacked"],
)
def test_banks_lie_behind_the_blocks_of_a_stack_and_before_the_channels(layer, lead):
    params, stats = make_banks(plain(), BANKS).values()
    for name in layer:
        params, stats = params[name], stats[name]
    shapes = {name: leaf.shape for name, leaf in {**params, **stats}.items()}
    wide = dict.fromkeys(("scale", "bias", "mean", "var"), (*lead, BANKS, 4))
    assert shapes == {**wide, "count": (*lead, BANKS)}
    assert stats["count"].dtype == jnp.int32


def test_layers_of_another_kind_get_no_banks():
    before = plain()["params"]
    found = make_banks(plain(), BANKS)["params"]
    for place in (lambda tree: tree["head"], lambda tree: tree["stage1"]["blocks"]["conv1"]):
        chex.assert_trees_all_equal(place(found), place(before))


def test_a_layer_gets_the_banks_that_a_layer_made_with_banks_has():
    x = jnp.ones((1, 4))
    alone = BatchNorm().init(jax.random.key(0), x, "running")
    chex.assert_trees_all_equal(
        make_banks(alone, BANKS), BatchNorm(BANKS).init(jax.random.key(0), x, "running", 0)
    )


def test_layers_that_are_not_asked_for_stay_as_they_are():
    before = plain()
    found = make_banks(before, BANKS, lambda path: path[0] != "stem")
    for collection in ("params", "stats"):
        chex.assert_trees_all_equal(found[collection]["stem"], before[collection]["stem"])
    assert found["stats"]["stage2"]["first"]["bn2"]["mean"].shape == (BANKS, 8)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("index", range(BANKS))
def test_every_bank_of_new_banks_is_the_plain_network(index, how):
    before = plain()
    chex.assert_trees_all_equal(bank(make_banks(before, BANKS), how(index)), before)


def test_a_part_without_statistics_has_no_bank_to_choose():
    head = {"params": plain()["params"]["head"]}
    chex.assert_trees_all_equal(bank(head, 2), head)


@pytest.mark.parametrize("how", HOW)
def test_one_bank_runs_and_moves_and_no_other(how):
    variables, index = with_unequal_banks(), 1
    own = bank(variables, how(index))
    moments = run(own)[1]
    stats = fold(variables["stats"], in_bank(moments, how(index), BANKS))
    chex.assert_trees_all_equal(
        bn_leaves(stats, all_but(index)), bn_leaves(variables["stats"], all_but(index))
    )
    folded = bank({"stats": stats}, index)["stats"]
    chex.assert_trees_all_equal(folded, fold(own["stats"], moments))
    assert (stats["stem"]["bn"]["count"] == jnp.array([0, 1, 0])).all()
    assert (stats["stage1"]["blocks"]["bn1"]["count"] == jnp.array([[0, 1, 0]] * 2)).all()


def test_passes_through_several_banks_are_added_and_folded_once():
    variables = with_unequal_banks()
    passes = [in_bank(run(bank(variables, i))[1], i, BANKS) for i in (0, 2, 2)]
    total = jax.tree.map(lambda *leaves: sum(leaves), *passes)
    stats = fold(variables["stats"], complete_moments(variables["stats"], total))
    for i in (0, 2):
        alone = fold(variables["stats"], in_bank(run(bank(variables, i))[1], i, BANKS))
        # The mean of two equal moments is the moment, up to a float32 rounding.
        chex.assert_trees_all_close(
            bn_leaves(stats, only(i)), bn_leaves(alone, only(i)), rtol=1e-6, atol=1e-7
        )
    chex.assert_trees_all_equal(bn_leaves(stats, only(1)), bn_leaves(variables["stats"], only(1)))


def test_gradients_reach_the_bank_that_ran_and_no_other():
    variables, index = with_unequal_banks(), 1

    @jax.jit
    def gradient(params):
        def loss(params):
            logits, _ = run(bank({**variables, "params": params}, index))
            return jnp.square(logits).sum()

        return jax.grad(loss)(params)

    found = gradient(variables["params"])
    others = bn_leaves(found, all_but(index))
    assert others
    assert not any(leaf.any() for leaf in others.values())
    assert all(leaf.any() for leaf in bn_leaves(found, only(index)).values())
    assert found["stage1"]["blocks"]["conv1"]["kernel"].any()


def test_a_pass_that_diverged_leaves_the_moments_of_other_banks_zero():
    moments = {"mean": jnp.full(4, jnp.nan), "var": jnp.full(4, jnp.inf), "n": jnp.int32(1)}
    found = in_bank(moments, 0, BANKS)
    np.testing.assert_array_equal(found["mean"][1:], np.zeros((2, 4)))
    np.testing.assert_array_equal(found["var"][1:], np.zeros((2, 4)))
    np.testing.assert_array_equal(found["n"], [1, 0, 0])


@pytest.mark.parametrize("index", [-1, BANKS])
def test_a_bank_that_is_not_there_is_refused(index):
    with pytest.raises(ValueError, match=f"bank {index} is not one of 3"):
        bank(make_banks(plain(), BANKS), index)
    with pytest.raises(ValueError, match=f"bank {index} is not one of 3"):
        in_bank({"n": jnp.int32(1)}, index, BANKS)


def test_a_bank_is_filled_where_its_count_is_zero_block_by_block():
    variables = with_unequal_banks()
    path = ("stage1", "blocks", "bn1")
    layer = variables["stats"]["stage1"]["blocks"]["bn1"]
    layer["count"] = jnp.array([[0, 5, 5], [4, 5, 5]])  # (blocks, banks)
    filled = fill_bank(variables, lambda at: 0 if at == path else None, lambda at: 2)
    for tree, name in (("params", "scale"), ("params", "bias"), ("stats", "mean")):
        before, after = (v[tree]["stage1"]["blocks"]["bn1"][name] for v in (variables, filled))
        np.testing.assert_array_equal(after[0, 0], before[0, 2])
        np.testing.assert_array_equal(after[1], before[1])
        np.testing.assert_array_equal(after[:, 1:], before[:, 1:])
    after = filled["stats"]["stage1"]["blocks"]["bn1"]["count"]
    np.testing.assert_array_equal(after, [[5, 5, 5], [4, 5, 5]])
    chex.assert_trees_all_equal(filled["stats"]["stem"], variables["stats"]["stem"])
