"""The forms of `sum_of_grads` are one function: loss, aux and gradients, in float64."""

import dataclasses
import functools

import chex
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from thorough import thorough
from warm import cast, random_batch, random_weights, some_draws

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.training.step import loss_in
from jax_elastic.training.sum_of_grads import given, sum_of_grads
from jax_elastic.training.trainable import merge, partition

# One point; one and a drawn budget; one and a loss with noise of its own; several points, in
# `resizable` of maps whose sizes differ, which switches by itself.
KINDS = ("plain", "urnet", "external", "iresnext", "resizable", "toy")
# What gates add does not ask for more than a stack of them; `plain` has a whole network.
STACK = ResNet((2,), width=4, classes=5)
UNROLLED = {"sliced", "host"}
ELSEWHERE = {"staged"}
# (family, objective, bn, what is trained): what each family adds, and a phase of gates alone under
# the statistics of test.
CASES = [
    *(
        (name, network.objectives[-1], "batch", ".*")
        for name, network in families.ALL.items()
        if name in KINDS
    ),
    ("toy", "shallow", "batch", ".*"),
    ("urnet", "gated", "running", "/gate/"),
]
# `sliced` is what the others are compared with, and here `host` is the same; `test_staged.py` has
# the one that is no program.
CASES_IN_FORMS = [
    (*case, form)
    for case in CASES
    for form in sorted(families.ALL[case[0]].forms - UNROLLED - ELSEWHERE)
]


# One point with soft and hard gates; traced coordinates; maps whose sizes differ; every form, of
# the toy; a phase of gates alone.
FAST = [("iresnext", "scan"), ("resizable", "scan_switch")]


def of_each_kind(name, objective, bn, pattern, form):
    return name == "urnet" or (name, form) in FAST or (name, objective) == ("toy", "both")


def in_float64(name, objective, seed):
    """A network, variables, a batch with one image masked, and several draws of it."""
    options = {"p": 0.5} if name == "urnet" else {}  # soft and hard gates in every step
    if name in ("urnet", "external"):
        options["backbone"] = STACK
    if name == "resizable":
        options["backbone"] = ResNet((1, 1), width=4, classes=5)
    network = dataclasses.replace(families.ALL[name], dtype="float64", **options)
    variables = random_weights(network, seed)
    batch = random_batch(16, seed, "float64", network.classes)
    batch["mask"] = batch["mask"].at[0].set(0)
    draws = some_draws(network, objective, seed)
    if len(draws) == 1:
        draws += some_draws(network, objective, seed + 1)
    return network, cast(variables, "float64"), batch, draws


@functools.cache
def program(form, network, objective, bn, pattern):
    """The jitted (variables, batch, draws) -> ((loss, aux), gradients) of one form."""
    loss_of, computed = loss_in(network, form)

    @jax.jit
    def run(variables, batch, draws):
        trainable, frozen = partition(variables["params"], pattern)

        def loss(params, draw, slot):
            both = {"params": merge(params, frozen), "stats": variables["stats"]}
            key = jax.random.fold_in(jax.random.key(0), slot)
            return loss_of(both, batch, draw, key, objective, bn)

        return sum_of_grads(loss, trainable, draws, computed, network.subnets)

    return run


def in_form(form, network, variables, batch, draws, objective, bn, pattern):
    """((loss, aux), gradients) of one form."""
    run = program(form, network, objective, bn, pattern)
    return run(variables, batch, given(draws, form, network.subnets))


@functools.cache
def case_and_sliced(name, objective, bn, pattern):
    """A case in float64, and what its sliced form gives; for all other forms."""
    case = *in_float64(name, objective, seed=3), objective, bn, pattern
    return case, in_form("sliced", *case)


@pytest.mark.parametrize("name,objective,bn,pattern,form", thorough(CASES_IN_FORMS, of_each_kind))
def test_a_form_of_several_draws_equals_the_sliced_one_in_float64(
    name, objective, bn, pattern, form
):
    with jax.enable_x64(True):
        case, sliced = case_and_sliced(name, objective, bn, pattern)
        other = in_form(form, *case)
        (value, _), gradients = sliced
        assert value.dtype == jnp.float64
        assert any(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(gradients))
        # Law 1: the same sums in another order.
        chex.assert_trees_all_equal_dtypes(other, sliced)
        chex.assert_trees_all_close(other, sliced, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", sorted(families.ALL["toy"].forms - UNROLLED))
@pytest.mark.parametrize("order", thorough([((0, 1),), ((1, 0),), ((1, 1),)], (1, 0).__eq__))
def test_the_forms_are_equal_in_whatever_order_the_operating_points_come(order, form):
    with jax.enable_x64(True):
        network, variables, batch, _ = in_float64("toy", "both", seed=3)
        drawn = {draw.subnet: draw for draw in some_draws(network, "both")}
        draws = tuple(drawn[list(network.subnets)[i]] for i in order)
        case = network, variables, batch, draws, "both", "batch", ".*"
        sliced, other = in_form("sliced", *case), in_form(form, *case)
        chex.assert_trees_all_close(other, sliced, rtol=1e-10, atol=1e-10)
