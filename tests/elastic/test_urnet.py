"""URNet: its gate, its loss, what trains what, and the numbers of the paper's ResNet-110."""

import dataclasses
import functools
import re

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from warm import BACKBONE, SMALL, cast, random_batch, random_images, warmed, with_gate_logits

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.budgeted import scale_loss
from jax_elastic.elastic.family import Draw, When
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.urnet.conditional import ConditionalGate
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.subnet import FULL
from jax_elastic.training.trainable import merge, partition

SOFT = dataclasses.replace(SMALL, p=1.0)
HARD = dataclasses.replace(SMALL, p=0.0)
GATES = "/gate/"
KEY = jax.random.key(0)
SHARES = st.floats(0, 1, width=32)


def when(objective):
    return When(0, 0.0, "joint", 0, 0.0, 10, objective)


@pytest.fixture(scope="module")
def variables():
    return warmed(SMALL, seed=8)


@functools.cache
def gradient_program(network, objective, bn, pattern):
    """The compiled (loss, aux), gradients of the parameters that `pattern` finds."""

    def function(variables, batch, budget):
        trainable, frozen = partition(variables["params"], pattern)

        def loss(trainable):
            both = {"params": merge(trainable, frozen), "stats": variables["stats"]}
            draw = Draw(FULL, values={"budget": budget})
            return network.loss(both, batch, draw, KEY, objective, bn)

        return jax.value_and_grad(loss, has_aux=True)(trainable)

    shapes = jax.eval_shape(network.init, KEY, random_images(1))
    return jax.jit(function).lower(shapes, random_batch(8), jnp.float32(0.5)).compile()


def value_aux_and_gradients(variables, network, objective="gated", bn="batch", pattern=""):
    program = gradient_program(network, objective, bn, pattern)
    (value, aux), gradients = program(variables, random_batch(8), jnp.float32(0.5))
    return value, aux, gradients


def gate_biases(tree):
    """The leaves at every gate's last bias; every gate's logit moves with its own."""
    found, _ = partition(tree, "/gate/logit/bias")
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])


@functools.cache
def forward(network, objective="gated", bn="running"):
    """The jitted loss and metric sums of (variables, batch, budget, key)."""

    @jax.jit
    def function(variables, batch, budget, key):
        draw = Draw(FULL, values={"budget": budget})
        value, aux = network.loss(variables, batch, draw, key, objective, bn)
        return value, aux

    return function


def mean_of(sums, name):
    total, count = sums[name]
    return float(total / count)


# The gate


@pytest.fixture(scope="module")
def gate():
    """A gate of reduction 2 over eight channels, and parameters without zeros."""
    module = ConditionalGate(2)
    shapes = jax.eval_shape(module.init, KEY, jnp.ones((1, 2, 2, 8)), jnp.float32(1))
    rng = np.random.default_rng(0)
    draw = functools.partial(rng.normal, scale=0.5)
    params = jax.tree.map(lambda s: jnp.asarray(draw(size=s.shape), s.dtype), shapes)
    return jax.jit(module.apply), params


@hypothesis.given(
    images=hnp.arrays(np.float32, (3, 2, 2, 8), elements=st.floats(0, 4, width=32)), budget=SHARES
)
def test_a_gate_is_two_layers_over_pooled_channels_and_the_repeated_budget(gate, images, budget):
    apply, variables = gate
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    seen = np.concatenate([images.mean((1, 2), np.float64), np.full((3, 8), budget)], 1)
    hidden = np.maximum(seen @ params["hidden"]["kernel"] + params["hidden"]["bias"], 0)
    logits = hidden @ params["logit"]["kernel"] + params["logit"]["bias"]
    # Sums of sixteen float32 products of size 4, twice.
    np.testing.assert_allclose(
        apply(variables, images, jnp.float32(budget)), logits[:, 0], rtol=1e-5, atol=1e-4
    )


def test_a_gate_has_half_its_channels_as_hidden_units_and_starts_without_bias():
    params = ConditionalGate(2).init(KEY, jnp.ones((1, 2, 2, 8)), 1.0)["params"]
    chex.assert_shape(params["hidden"]["kernel"], (16, 4))
    chex.assert_shape(params["logit"]["kernel"], (4, 1))
    assert not params["hidden"]["bias"].any()
    assert not params["logit"]["bias"].any()


def test_a_gate_has_a_hidden_unit_even_where_the_reduction_exceeds_the_channels():
    params = ConditionalGate(16).init(KEY, jnp.ones((1, 2, 2, 8)), 1.0)["params"]
    chex.assert_shape(params["hidden"]["kernel"], (16, 1))


def test_a_gates_logit_moves_with_the_image_and_with_the_budget(gate):
    apply, variables = gate
    images = jnp.abs(jax.random.normal(KEY, (4, 2, 2, 8)))
    logits = apply(variables, images, jnp.float32(0.5))
    slope = jax.grad(lambda s: apply(variables, images[:1], s)[0])(jnp.float32(0.5))
    assert len(np.unique(logits)) == 4
    assert slope != 0


def test_a_bfloat16_map_gets_a_float32_logit(gate):
    apply, variables = gate
    logits = jax.eval_shape(
        apply, variables, jnp.ones((4, 2, 2, 8), jnp.bfloat16), jnp.float32(0.5)
    )
    assert (logits.shape, logits.dtype) == ((4,), jnp.float32)


# The loss


@hypothesis.given(hnp.arrays(np.float32, (3, 5), elements=SHARES), SHARES)
def test_the_scale_loss_is_the_squared_distance_of_usage_from_the_budget(gates, budget):
    usage = gates.astype(np.float64).sum(1) / 5
    # Float32 rounding of numbers up to 1.
    np.testing.assert_allclose(scale_loss(gates, budget), (usage - budget) ** 2, atol=1e-6)


def test_the_scale_loss_is_per_sample_so_extremes_do_not_cancel():
    # One image opens everything, the other nothing: on average the budget is met.
    per_sample = scale_loss(jnp.array([[1.0, 1.0], [0.0, 0.0]]), 0.5)
    np.testing.assert_array_equal(per_sample, [0.25, 0.25])


def test_the_loss_is_cross_entropy_plus_beta_times_the_scale_loss(variables):
    value, aux = forward(SOFT)(variables, random_batch(8), jnp.float32(0.3), KEY)
    expected = mean_of(aux.sums, "ce") + 2.0 * mean_of(aux.sums, "scale_loss")
    assert mean_of(aux.sums, "scale_loss") > 0
    # Float32 rounding of a sum of eight.
    assert float(value) == pytest.approx(expected, rel=1e-6)


# logit 0: the sigmoid is 0.5, the step 1.
@pytest.mark.parametrize("network,gates", [(SOFT, 0.5), (HARD, 1.0)], ids=["p=1", "p=0"])
def test_gates_are_all_sigmoids_at_p_one_and_all_steps_at_p_zero(variables, network, gates):
    undecided = with_gate_logits(SMALL, variables, [0.0] * 5)
    _, aux = forward(network)(undecided, random_batch(8), jnp.float32(0.2), KEY)
    # Float32 rounding of 0.2.
    assert mean_of(aux.sums, "scale_loss") == pytest.approx((gates - 0.2) ** 2, abs=1e-6)


def test_usage_is_the_share_of_hard_gates_even_where_training_is_soft(variables):
    decided = with_gate_logits(SMALL, variables, [0.1, -0.1, 0.0, -3, -1])
    _, aux = forward(SOFT)(decided, random_batch(8), jnp.float32(0.2), KEY)
    # Float32 rounding of 0.4 and 0.2.
    assert mean_of(aux.sums, "usage") == pytest.approx(0.4, abs=1e-6)
    assert mean_of(aux.sums, "budget") == pytest.approx(0.2, abs=1e-6)


def test_images_outside_the_mask_do_not_count(variables):
    whole, part = random_batch(8), random_batch(8)
    part["image"] = part["image"].at[6:].set(100.0)
    part["mask"] = part["mask"].at[6:].set(0)
    other = {**part, "image": whole["image"]}
    masked = forward(SOFT)(variables, part, jnp.float32(0.3), KEY)
    assert masked[1].sums["ce"][1] == masked[1].sums["usage"][1] == 6
    chex.assert_trees_all_equal(masked, forward(SOFT)(variables, other, jnp.float32(0.3), KEY))
    assert masked[0] != forward(SOFT)(variables, whole, jnp.float32(0.3), KEY)[0]


def soft_patterns(network, variables, dtype):
    """For eight keys the mean gate, whose value tells which of the five gates were soft."""
    logits = [0.1, 0.4, 0.9, 1.7, 4.0]
    decided = with_gate_logits(SMALL, variables, logits)
    wide = cast(decided, dtype)
    batch = random_batch(2, dtype=dtype)
    keys = jax.random.split(KEY, 8)
    found = [forward(network)(wide, batch, jnp.float32(0), key)[1] for key in keys]
    return np.sqrt([mean_of(aux.sums, "scale_loss") for aux in found])


def test_the_same_gates_are_soft_in_float32_and_float64(variables):
    half = dataclasses.replace(SMALL, p=0.5)
    narrow = soft_patterns(half, variables, "float32")
    with jax.enable_x64(True):
        wide = soft_patterns(dataclasses.replace(half, dtype="float64"), variables, "float64")
    assert len(np.unique(narrow)) > 4
    # One gate more or less moves the mean by 0.003 or more; float32 rounding by 1e-6.
    np.testing.assert_allclose(narrow, wide, atol=1e-5)


def test_a_float64_network_starts_from_the_float32_numbers():
    tiny = URNet(ResNet((1,), width=4, classes=5))
    narrow = jax.jit(tiny.init)(KEY, random_images(1))
    with jax.enable_x64(True):
        wide = jax.jit(dataclasses.replace(tiny, dtype="float64").init)(KEY, random_images(1))
        assert wide["params"]["stem"]["conv"]["kernel"].dtype == jnp.float64
    # Drawn in float32 and widened; two programs may round the scaling by one bit.
    chex.assert_trees_all_close(jax.device_get(wide), jax.device_get(narrow), rtol=3e-7)


# What trains what


def test_without_gates_the_loss_is_that_of_the_plain_network(variables):
    plain = Plain(BACKBONE)
    _, shared = partition(variables["params"], GATES)
    stripped = {"params": shared, "stats": variables["stats"]}
    ours = forward(SMALL, "base", "batch")(variables, random_batch(8), jnp.float32(0), KEY)
    theirs = forward(plain, "base", "batch")(stripped, random_batch(8), jnp.float32(0), KEY)
    # The same operations; compiled apart.
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-6)
    init = jax.eval_shape(plain.init, KEY, random_images(1))
    chex.assert_trees_all_equal_shapes_and_dtypes(init, stripped)


def test_without_gates_no_gate_has_a_gradient_and_everything_else_has(variables):
    _, _, gradients = value_aux_and_gradients(variables, SMALL, "base")
    of_gates, others = partition(gradients, GATES)
    assert not any(leaf.any() for leaf in jax.tree.leaves(of_gates))
    assert all(leaf.any() for leaf in jax.tree.leaves(others))


def test_every_parameter_has_a_gradient_in_the_joint_phase(variables):
    _, _, gradients = value_aux_and_gradients(variables, SOFT)
    chex.assert_tree_all_finite(gradients)
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients))
    assert (gate_biases(gradients) != 0).all()


def test_in_the_gate_phase_every_gate_trains_and_nothing_else_does(variables):
    _, _, gradients = value_aux_and_gradients(variables, SOFT, bn="running", pattern=GATES)
    gates, _ = partition(variables["params"], GATES)
    chex.assert_trees_all_equal_shapes(gradients, gates)
    assert gate_biases(gradients).shape == (5,)
    assert (gate_biases(gradients) != 0).all()


def test_at_p_zero_no_gate_has_a_gradient(variables):
    # The paper's BG ablation: the step has none, and there is no straight-through estimate.
    _, _, gradients = value_aux_and_gradients(variables, HARD, bn="running", pattern=GATES)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients))


def count_convolutions(program):
    return len(re.findall(r" convolution\(", program.as_text()))


def test_the_gate_phase_computes_no_weight_gradient_of_the_base():
    joint = count_convolutions(gradient_program(SOFT, "gated", "batch", ""))
    gates = count_convolutions(gradient_program(SOFT, "gated", "running", GATES))
    # The program has the stem, and two convolutions for each distinct body of a block. The
    # joint phase has a weight gradient of each.
    kernels = 1 + 2 * len({site.path for site in BACKBONE.sites()})
    assert gates <= joint - kernels
    # The gradient still runs back through the blocks to the gates before them.
    assert gates > kernels


@pytest.mark.parametrize("bn,changes", [("running", False), ("batch", True)])
def test_statistics_move_exactly_where_the_phase_reads_the_batch(variables, bn, changes):
    _, aux = forward(SOFT, bn=bn)(variables, random_batch(8), jnp.float32(0.3), KEY)
    folded = jax.jit(SOFT.fold)(variables["stats"], aux)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), folded, variables["stats"])
    assert all(value is not changes for value in jax.tree.leaves(same))


# Draws, checks, costs


@hypothesis.given(
    st.integers(0, 2**32), st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted).map(tuple)
)
def test_a_step_draws_one_budget_within_the_range_from_the_generator_alone(seed, span):
    network = URNet(BACKBONE, s_min=span[0], s_max=span[1])
    (draw,) = network.draws(np.random.default_rng(seed), when("gated"))
    (again,) = network.draws(np.random.default_rng(seed), when("gated")._replace(step=7))
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


def test_the_base_phase_draws_no_budget_and_leaves_the_generator_alone():
    rng = np.random.default_rng(0)
    (draw,) = SMALL.draws(rng, when("base"))
    assert draw == Draw(FULL)
    assert rng.random() == np.random.default_rng(0).random()


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"p": -0.1}, "p -0.1 is not a probability"),
        ({"p": 1.1}, "p 1.1 is not a probability"),
        ({"p": float("nan")}, "p nan is not a probability"),
        ({"beta": -1.0}, "beta -1 is not a weight"),
        ({"beta": float("nan")}, "beta nan is not a weight"),
        ({"reduction": 0}, "reduction 0 is not positive"),
        ({"s_min": 0.8, "s_max": 0.4}, "0 <= s_min <= s_max <= 1"),
        ({"s_min": -0.1}, "0 <= s_min <= s_max <= 1"),
        ({"s_max": 1.1}, "0 <= s_min <= s_max <= 1"),
    ],
    ids=str,
)
def test_hyperparameters_that_cannot_be_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        URNet(BACKBONE, **fields)


def test_a_prediction_without_a_budget_is_refused(variables):
    with pytest.raises(UsageError, match="needs a budget"):
        SMALL.predict(variables, random_images(2), (FULL,), None)


def test_a_prediction_depends_on_the_budget_only_through_its_gates(variables):
    predict = jax.jit(SMALL.predict, static_argnums=2)
    decided = with_gate_logits(SMALL, variables, [1, -1, 1, 0, -1])
    low, high = (predict(decided, random_images(4), (FULL,), s)[0] for s in (0.1, 0.9))
    chex.assert_trees_all_equal(low, high)
    np.testing.assert_array_equal(low.gates, np.tile([1, -1, 1, 0, -1], (4, 1)))
    free = [predict(variables, random_images(4), (FULL,), s)[0].gates for s in (0.1, 0.9)]
    assert (free[0] != free[1]).all()


def test_the_gates_of_resnet_110_cost_what_the_paper_says():
    cost = CostModel(URNet(ResNet((18, 18, 18))), (32, 32, 3)).cost(FULL)
    assert len(cost.blocks) == 54
    assert cost.gates == 93_912
    # Two printed digits of a percentage.
    assert 100 * cost.gates / 252_887_680 == pytest.approx(0.037, abs=5e-4)


def test_blocks_of_resnet_32_cost_what_the_table_says():
    cost = CostModel(URNet(), (32, 32, 3)).cost(FULL)
    first, other = 3_538_944, 4_718_592
    assert cost.blocks == (*[other] * 5, first, *[other] * 4, first, *[other] * 4)
    assert cost.fixed == 68_862_592 - sum(cost.blocks)


def test_float64_without_x64_mode_is_refused():
    with pytest.raises(UsageError, match="dtype float64 needs jax's x64 mode"):
        dataclasses.replace(SMALL, dtype="float64").init(KEY, random_images(1))


@pytest.mark.parametrize("momentum", [-0.1, 1.0, float("nan")])
def test_a_bn_momentum_that_is_no_weight_is_refused(momentum):
    with pytest.raises(UsageError, match=r"bn_momentum .* is no weight"):
        dataclasses.replace(SMALL, bn_momentum=momentum)
