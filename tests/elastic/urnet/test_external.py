"""External: a policy network of its own decides all gates from the image and the budget."""

import dataclasses

import chex
import jax
import numpy as np
import pytest
from programs import KEY, forward, has_gradient, mean_of, value_aux_and_gradients
from warm import random_batch, random_images, shapes_of, warmed

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.urnet.external import POLICY, External
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.subnet import FULL
from jax_elastic.training.trainable import partition

TINY = ResNet((2, 1), width=4, classes=5)
SOFT = External(TINY, p=1.0, hidden=8)
HARD = dataclasses.replace(SOFT, p=0.0)
PATTERN = "^policy/"


@pytest.fixture(scope="module")
def variables():
    return warmed(SOFT, seed=8)


def of_policy(tree):
    return tree[POLICY]


def of_base(tree):
    return {name: part for name, part in tree.items() if name != POLICY}


def test_its_variables_are_those_of_the_plain_network_and_a_policy():
    ours, plain = shapes_of(SOFT), shapes_of(Plain(TINY))
    chex.assert_trees_all_equal({name: of_base(ours[name]) for name in ours}, plain)
    assert set(of_policy(ours["params"])) == {
        *("stem", "stage1", "stage2", "stage3", "hidden", "logits")
    }
    assert of_policy(ours["params"])["logits"]["kernel"].shape == (8, TINY.num_blocks)


def test_in_the_joint_phase_policy_and_base_train(variables):
    _, _, gradients = value_aux_and_gradients(variables, SOFT)
    chex.assert_tree_all_finite(gradients)
    assert all(has_gradient(of_base(gradients)))
    assert all(has_gradient(of_policy(gradients)))


def test_at_p_zero_the_policy_has_no_gradient_at_all(variables):
    _, _, gradients = value_aux_and_gradients(variables, HARD, pattern=PATTERN)
    assert set(gradients) == {POLICY}
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients))


def test_in_a_phase_of_its_own_the_policy_trains_alone(variables):
    _, _, gradients = value_aux_and_gradients(variables, SOFT, "policy", "running", PATTERN)
    policy, _ = partition(variables["params"], PATTERN)
    chex.assert_trees_all_equal_shapes(gradients, policy)
    assert all(has_gradient(gradients))


def test_in_a_phase_of_its_own_the_policy_takes_and_learns_the_batchs_statistics(variables):
    _, aux, _ = value_aux_and_gradients(variables, SOFT, "policy", "running", PATTERN)
    before, after = variables["stats"], SOFT.fold(variables["stats"], aux)
    chex.assert_trees_all_equal(of_base(after), of_base(before))
    changed = jax.tree.map(lambda a, b: bool((a != b).all()), of_policy(after), of_policy(before))
    assert all(jax.tree.leaves(changed))
    counts = [leaf for leaf in jax.tree.leaves(of_policy(after)) if leaf.dtype == np.int32]
    assert {int(count) for leaf in counts for count in np.ravel(leaf)} == {2}


def test_in_other_phases_the_policys_statistics_follow_the_phase(variables):
    _, aux = forward(SOFT)(variables, random_batch(8), np.float32(0.5), KEY)
    chex.assert_trees_all_equal(SOFT.fold(variables["stats"], aux), variables["stats"])


def test_the_loss_is_cross_entropy_plus_beta_times_the_scale_loss(variables):
    value, aux = forward(SOFT)(variables, random_batch(8), np.float32(0.3), KEY)
    expected = mean_of(aux.sums, "ce") + 2.0 * mean_of(aux.sums, "scale_loss")
    assert mean_of(aux.sums, "scale_loss") > 0
    # Float32 rounding of a sum of eight.
    assert float(value) == pytest.approx(expected, rel=1e-6)


predict = jax.jit(SOFT.predict, static_argnums=2)


def test_gates_depend_on_the_image_and_the_budget_and_not_on_the_network_they_gate(variables):
    other = warmed(SOFT, seed=9)
    mixed = {
        name: {**of_base(other[name]), POLICY: of_policy(variables[name])} for name in variables
    }
    images = random_images(8)
    ours, theirs, elsewhere = (
        predict(v, images, (FULL,), np.float32(s))[0]
        for v, s in [(variables, 0.5), (mixed, 0.5), (variables, 0.9)]
    )
    np.testing.assert_array_equal(ours.gates, theirs.gates)
    assert (ours.logits[0] != theirs.logits[0]).any()
    assert (ours.gates != elsewhere.gates).all()
    assert all(len(np.unique(column)) == 8 for column in ours.gates.T)


def test_the_policy_of_resnet_110_costs_what_the_paper_says():
    cost = CostModel(External(ResNet((18, 18, 18))), (32, 32, 3)).cost(FULL)
    plain = CostModel(Plain(ResNet((18, 18, 18))), (32, 32, 3)).cost(FULL)
    # The stem, three stages of one block, and the layers that end in 54 gates.
    stem, stages = 32 * 32 * 9 * 3 * 16, 4_718_592 + 2 * 3_538_944
    assert cost.gates == stem + stages + (128 * 32 + 32 * 54)
    assert f"{cost.gates / 1e6:.2f}" == "12.24"
    assert len(cost.blocks) == 54
    assert cost.fixed + sum(cost.blocks) == plain.full


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"p": 1.1}, "p 1.1 is not a probability"),
        ({"beta": -1.0}, "beta -1 is not a weight"),
        ({"hidden": 0}, "hidden 0 is not positive"),
    ],
    ids=str,
)
def test_hyperparameters_that_cannot_be_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        External(TINY, **fields)
