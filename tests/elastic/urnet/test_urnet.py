"""URNet: its loss, what trains what, and the numbers of the paper's ResNet-110."""

import dataclasses
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from programs import (
    KEY,
    forward,
    gradient_program,
    has_gradient,
    mean_of,
    value_aux_and_gradients,
)
from warm import (
    BACKBONE,
    SMALL,
    cast,
    random_batch,
    random_images,
    shapes_of,
    warmed,
    with_gate_logits,
)

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.subnet import FULL
from jax_elastic.training.phases import Phase, Span, make_optimizer
from jax_elastic.training.trainable import partition

SOFT = dataclasses.replace(SMALL, p=1.0)
HARD = dataclasses.replace(SMALL, p=0.0)
GATES = "/gate/"


@pytest.fixture(scope="module")
def variables():
    return warmed(SMALL, seed=8)


def gate_count(gates):
    found, _ = partition(gates, "/logit/bias")
    return sum(leaf.size for leaf in jax.tree.leaves(found))


def gate_biases(tree):
    """The leaves at every gate's last bias; every gate's logit moves with its own."""
    found, _ = partition(tree, "/gate/logit/bias")
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(found)])


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


def test_the_variables_are_those_of_the_plain_network_and_a_gate_per_block():
    ours = shapes_of(SMALL)
    gates, shared = partition(ours["params"], GATES)
    chex.assert_trees_all_equal(
        {"params": shared, "stats": ours["stats"]}, shapes_of(Plain(BACKBONE))
    )
    assert gate_count(gates) == 5


def test_without_gates_no_gate_has_a_gradient_and_everything_else_has(variables):
    _, _, gradients = value_aux_and_gradients(variables, SMALL, "base")
    of_gates, others = partition(gradients, GATES)
    assert not any(leaf.any() for leaf in jax.tree.leaves(of_gates))
    assert all(has_gradient(others))


def test_every_parameter_has_a_gradient_in_the_joint_phase(variables):
    _, _, gradients = value_aux_and_gradients(variables, SOFT)
    chex.assert_tree_all_finite(gradients)
    assert all(has_gradient(gradients))
    assert (gate_biases(gradients) != 0).all()


def test_in_the_gate_phase_every_gate_trains_and_nothing_else_does(variables):
    _, _, gradients = value_aux_and_gradients(variables, SOFT, bn="running", pattern=GATES)
    gates, _ = partition(variables["params"], GATES)
    chex.assert_trees_all_equal_shapes(gradients, gates)
    assert gate_biases(gradients).shape == (5,)
    assert (gate_biases(gradients) != 0).all()


def test_at_p_zero_no_gate_has_a_gradient_and_everything_else_has(variables):
    # The paper's BG ablation: the step has none, and there is no straight-through estimate.
    opened = with_gate_logits(HARD, variables, [1.0] * 5)
    _, _, gradients = value_aux_and_gradients(opened, HARD)
    of_gates, others = partition(gradients, GATES)
    assert not any(leaf.any() for leaf in jax.tree.leaves(of_gates))
    assert all(has_gradient(others))


def test_at_p_zero_joint_steps_leave_every_gate_as_it_was_to_the_bit(variables):
    phase = Phase("joint", 5, "gated", 1e-2, optimizer="adam", weight_decay=0)
    optimizer = make_optimizer(Span(phase, 0, 0, 3, 0.0, 1.0))
    update = jax.jit(optimizer.update)
    params, state = variables["params"], optimizer.init(variables["params"])
    for seed in range(3):
        step = {"params": params, "stats": variables["stats"]}
        program = gradient_program(HARD)
        _, gradients = program(step, random_batch(8, seed), jnp.float32(0.5), KEY)
        updates, state = update(gradients, state)
        params = jax.tree.map(np.add, params, updates)
    (gates, others), (before, shared) = (
        partition(tree, GATES) for tree in (params, variables["params"])
    )
    chex.assert_trees_all_equal(gates, before)
    # Blocks that no image opened stay, too; these always run.
    always = {name: (others[name], shared[name]) for name in ("stem", "head")}
    assert all(
        has_gradient({name: jax.tree.map(np.subtract, *pair) for name, pair in always.items()})
    )


def count_convolutions(program):
    return len(re.findall(r" convolution\(", program.as_text()))


def test_the_gate_phase_computes_no_weight_gradient_of_the_base():
    joint = count_convolutions(gradient_program(SOFT))
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


# Checks and costs


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"p": -0.1}, "p -0.1 is not a probability"),
        ({"p": 1.1}, "p 1.1 is not a probability"),
        ({"p": float("nan")}, "p nan is not a probability"),
        ({"beta": -1.0}, "beta -1 is not a weight"),
        ({"beta": float("nan")}, "beta nan is not a weight"),
    ],
    ids=str,
)
def test_hyperparameters_that_cannot_be_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        URNet(BACKBONE, **fields)


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
