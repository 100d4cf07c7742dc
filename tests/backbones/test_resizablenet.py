"""ResizableNet: its published size, its kinds of units, dropout, and parts that are the network."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chained import (
    in_parts,
    maps_of,
    names_of,
    names_read,
    random_variables,
    shapes_of,
    size_of,
    whole,
)

from jax_elastic.backbones.resizablenet import ResizableHead, ResizableNet
from jax_elastic.errors import UsageError
from jax_elastic.macs import count_macs

# Stages with and without a second unit, all kinds, one stage with squeezes.
TINY = ResizableNet(("33", "5", "7X"), (4, 6, 8), 2, 5, classes=3, stem="cifar")
REFERENCE = TINY.reference()  # its 7x7 kernels compile sooner
IMAGES = np.random.default_rng(0).normal(size=(5, 10, 10, 3))


def test_parameters_and_macs_are_the_published_ones():
    # docs/choices.md N6: printed are 6.7 M and 365 M.
    net = ResizableNet()
    image = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    apply = functools.partial(net.reference().module().apply, bn="running")
    assert size_of(shapes_of(net)["params"]) == 6_770_500
    assert count_macs(apply, shapes_of(net), image) == 360_050_704


@pytest.mark.parametrize(
    "net,side,maps",
    [
        (ResizableNet(), 224, (56, 28, 14, 7)),
        (ResizableNet(stem="cifar", classes=10), 32, (32, 16, 8, 4)),
        (TINY, 10, (10, 5, 3)),
    ],
    ids=["imagenet", "cifar", "tiny"],
)
def test_the_first_part_of_each_stage_reads_its_standard_map(net, side, maps):
    assert maps_of(net, side) == net.standard(side) == maps


@pytest.mark.parametrize("bn", ["batch", "running"])
def test_the_parts_one_after_the_other_are_the_network(bn):
    with jax.enable_x64(True):
        variables = random_variables(TINY)
        expected = jax.jit(whole, static_argnums=(0, 3))(REFERENCE, variables, IMAGES, bn)
        found = jax.jit(in_parts, static_argnums=(0, 3))(REFERENCE, variables, IMAGES, bn)
    # Law 1: every form agrees to 1e-10 in float64. Logits and moments are of size 1.
    chex.assert_trees_all_close(found, expected, rtol=0, atol=1e-10)
    assert (len(jax.tree.leaves(expected[1])) > 0) == (bn == "batch")


def test_the_parts_read_every_variable_once():
    variables = shapes_of(TINY)
    assert sorted(names_read(TINY, variables)) == sorted(names_of(variables))


def test_parts_of_equal_networks_are_equal():
    # So that what is compiled for one is found for the other.
    assert TINY.parts() == ResizableNet(("33", "5", "7X"), (4, 6, 8), 2, 5, 0.5, 3, "cifar").parts()


def test_the_reference_form_is_the_same_function():
    with jax.enable_x64(True):
        variables = random_variables(TINY)
        run = jax.jit(whole, static_argnums=(0, 3))
        expected, _ = run(TINY, variables, IMAGES, "running")
        found, _ = run(REFERENCE, variables, IMAGES, "running")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_every_parameter_gets_a_finite_gradient():
    with jax.enable_x64(True):
        variables = random_variables(TINY)

        @jax.jit
        def gradient(params):
            def loss(params):
                logits, _ = whole(REFERENCE, {**variables, "params": params}, IMAGES, "batch")
                return jnp.square(logits).sum()

            return jax.grad(loss)(params)

        found = gradient(variables["params"])
    chex.assert_tree_all_finite(found)
    assert all(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(found))


@pytest.mark.parametrize(
    "stage,unit,size,squeezed",
    [(1, 1, 3, False), (1, 4, 5, False), (2, 2, 5, False), (3, 1, 7, True), (4, 2, 5, True)],
)
def test_a_unit_has_the_kernel_and_the_squeeze_of_its_place(stage, unit, size, squeezed):
    found = shapes_of(ResizableNet())["params"][f"stage{stage}"][f"unit{unit}"]
    assert found["right"]["separable"]["depthwise"]["kernel"].shape[:2] == (size, size)
    assert ("squeeze" in found) == squeezed
    assert ("left" in found) == (unit == 1)


@pytest.mark.parametrize("stage,unit", [(1, 3), (4, 3)])
def test_a_unit_of_kind_x_is_three_separable_convolutions(stage, unit):
    right = shapes_of(ResizableNet())["params"][f"stage{stage}"][f"unit{unit}"]["right"]
    assert set(right) == {"separable1", "separable2", "separable3"}
    kernels = [separable["depthwise"]["kernel"].shape[:2] for separable in right.values()]
    assert kernels == [(3, 3)] * 3


def head_that_shows_its_hidden_features(dropout, dtype="float32"):
    """A head and variables whose logits are the hidden features."""
    head = ResizableHead(features=64, dropout=dropout, classes=64)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 2, 3)), dtype)
    shapes = jax.eval_shape(functools.partial(head.init, bn="running"), jax.random.key(0), x)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.5, 1, s.shape), dtype), shapes)
    variables["params"]["classifier"] = {"kernel": jnp.eye(64, dtype=dtype), "bias": jnp.zeros(64)}
    return head, variables, x


def dropped(head, variables, x, seed):
    """Its logits where it drops."""
    return head.apply(variables, x, "running", rngs={"dropout": jax.random.key(seed)})[0]


@pytest.mark.parametrize("dropout,scale", [(0.5, 2.0), (0.25, 4 / 3)])
def test_dropout_leaves_out_a_share_and_makes_up_for_it(dropout, scale):
    head, variables, x = head_that_shows_its_hidden_features(dropout)
    (hidden,) = head.apply(variables, x, "running")
    out = dropped(head, variables, x, seed=0)
    assert np.all(np.asarray(hidden) != 0)
    is_out = np.asarray(out) == 0
    np.testing.assert_allclose(out[~is_out], scale * hidden[~is_out], rtol=1e-6)
    # 256 draws: five standard deviations are 0.16.
    assert abs(is_out.mean() - dropout) < 0.16


def test_dropout_draws_for_each_image_and_key_and_the_same_in_float64():
    head, variables, x = head_that_shows_its_hidden_features(0.5)
    first = np.asarray(dropped(head, variables, x, seed=0)) == 0
    other = np.asarray(dropped(head, variables, x, seed=1)) == 0
    with jax.enable_x64(True):
        wide = np.asarray(dropped(*head_that_shows_its_hidden_features(0.5, "float64"), seed=0))
    assert len(np.unique(first, axis=0)) == 4
    assert np.any(first != other)
    assert wide.dtype == np.float64
    np.testing.assert_array_equal(wide == 0, first)


def test_only_the_last_part_draws_and_only_with_a_key():
    variables = random_variables(TINY, "float32")
    *_, head = TINY.parts()
    own, x = head.take(variables), jnp.ones((2, 3, 3, 8))
    (plain,), _ = head.run(own, x, "running")
    (again,), _ = head.run(own, x, "running")
    (drawn,), _ = head.run(own, x, "running", jax.random.key(0))
    np.testing.assert_array_equal(plain, again)
    assert np.any(np.asarray(plain) != np.asarray(drawn))


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"units": (), "widths": ()}, "one or more of 3 5 7 X for each stage"),
        ({"units": ("33X5", "", "7", "7")}, "are not the kinds of each stage's"),
        ({"units": ("33X5", "49", "7", "7")}, r'for example units=\("33X5", "5533"\)'),
        ({"widths": (68, 168)}, r"widths \(68, 168\) are not those of 4 stages; one for each"),
        ({"widths": (68, 168, 336, 673)}, "even, and each more than the one before"),
        ({"stem_width": 0}, "stem_width 0 is not positive"),
        ({"dropout": 1.0}, "dropout 1.0 is not a share; from 0 to less than 1"),
        ({"classes": 1}, "classes 1 is too few to tell apart; 2 or more"),
        ({"stem": "large"}, "stem 'large' is unknown; cifar or imagenet"),
    ],
    ids=str,
)
def test_an_architecture_that_cannot_be_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        ResizableNet(**fields)
