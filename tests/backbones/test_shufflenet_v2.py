"""ShuffleNetV2: published sizes, the branches of its units, and parts that are the network."""

import functools

import chex
import flax.linen as nn
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

from jax_elastic.backbones.shuffle_units import ShuffleUnit, shuffle
from jax_elastic.backbones.shufflenet_v2 import ShuffleNetV2
from jax_elastic.errors import UsageError
from jax_elastic.layers.norm import EPSILON
from jax_elastic.macs import count_macs

TINY = ShuffleNetV2((1, 3), (4, 6), 3, 5, classes=3, stem="cifar")
TINY_LARGE = ShuffleNetV2((2,), (4,), 2, 5, classes=3, unit="halves")
IMAGES = np.random.default_rng(0).normal(size=(5, 10, 10, 3))


def macs_of(net, side):
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    module = net.reference().module()
    return count_macs(functools.partial(module.apply, bn="running"), shapes_of(net), image)


# docs/choices.md N5.
@pytest.mark.parametrize(
    "unit,params,macs",
    [("uneven", 3_507_720, 298_970_656), ("halves", 3_503_624, 295_759_392)],
)
def test_parameters_and_macs_are_the_published_ones(unit, params, macs):
    net = ShuffleNetV2(unit=unit)
    assert size_of(shapes_of(net)["params"]) == params
    assert macs_of(net, 224) == macs


@pytest.mark.parametrize(
    "widths,head,params",
    [
        ((48, 96, 192), 1024, 1_366_792),
        ((116, 232, 464), 1024, 2_278_604),
        ((244, 488, 976), 2048, 7_393_996),
    ],
    ids=["0.5x", "1x", "2x"],
)
def test_in_halves_the_other_widths_have_as_many_parameters_as_torchvisions(widths, head, params):
    net = ShuffleNetV2(widths=widths, head_width=head, unit="halves")
    assert size_of(shapes_of(net)["params"]) == params


@pytest.mark.parametrize(
    "net,side,maps",
    [
        (ShuffleNetV2(), 224, (56, 28, 14, 7)),
        (ShuffleNetV2(), 190, (48, 24, 12, 6)),
        (ShuffleNetV2(stem="cifar", classes=10), 32, (32, 16, 8, 4)),
        (TINY, 10, (10, 5, 3)),
        (TINY_LARGE, 33, (9, 5)),
    ],
    ids=["imagenet", "imagenet-190", "cifar", "tiny", "tiny-large"],
)
def test_the_first_part_of_each_stage_reads_its_standard_map(net, side, maps):
    # Stage 2 of TINY has a single unit: what reads its map first is the first unit of stage 3.
    assert maps_of(net, side) == net.standard(side) == maps


@pytest.mark.parametrize("net", [TINY, TINY_LARGE], ids=["uneven", "halves"])
@pytest.mark.parametrize("bn", ["batch", "running"])
def test_the_parts_one_after_the_other_are_the_network(net, bn):
    with jax.enable_x64(True):
        variables = random_variables(net)
        expected = jax.jit(whole, static_argnums=(0, 3))(net, variables, IMAGES, bn)
        found = jax.jit(in_parts, static_argnums=(0, 3))(net, variables, IMAGES, bn)
    # Law 1: every form agrees to 1e-10 in float64. Logits and moments are of size 1.
    chex.assert_trees_all_close(found, expected, rtol=0, atol=1e-10)
    assert (len(jax.tree.leaves(expected[1])) > 0) == (bn == "batch")


@pytest.mark.parametrize("net", [TINY, TINY_LARGE], ids=["uneven", "halves"])
def test_the_parts_read_every_variable_once(net):
    variables = shapes_of(net)
    assert sorted(names_read(net, variables)) == sorted(names_of(variables))


def test_the_reference_form_is_the_same_function():
    with jax.enable_x64(True):
        variables = random_variables(TINY)
        expected, _ = jax.jit(whole, static_argnums=(0, 3))(TINY, variables, IMAGES, "running")
        reference = TINY.reference()
        found, _ = jax.jit(whole, static_argnums=(0, 3))(reference, variables, IMAGES, "running")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_every_parameter_gets_a_finite_gradient():
    with jax.enable_x64(True):
        variables = random_variables(TINY)

        @jax.jit
        def gradient(params):
            def loss(params):
                logits, _ = whole(
                    TINY.reference(), {**variables, "params": params}, IMAGES, "batch"
                )
                return jnp.square(logits).sum()

            return jax.grad(loss)(params)

        found = gradient(variables["params"])
    chex.assert_tree_all_finite(found)
    assert all(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(found))


def test_shuffling_gives_each_half_of_the_channels_some_of_either():
    np.testing.assert_array_equal(shuffle(jnp.arange(8)), [0, 4, 1, 5, 2, 6, 3, 7])


def test_a_unit_passes_the_first_half_of_its_input_as_it_is():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 6)), jnp.float32)
    unit = ShuffleUnit(features=6)
    (out, _), _ = jax.jit(unit.init_with_output, static_argnums=3)(
        jax.random.key(0), x, None, "running"
    )
    np.testing.assert_array_equal(out[..., ::2], x[..., :3])
    assert np.all(out[..., 1::2] >= 0)


def test_only_the_1x1_convolutions_of_a_unit_are_followed_by_a_relu():
    unit = ShuffleUnit(features=8, stride=2, first=True)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 5, 3)), jnp.float32)
    (out, _), variables = jax.jit(unit.init_with_output, static_argnums=3)(
        jax.random.key(0), x, None, "running"
    )

    def conv(x, own, stride=1):
        # Fresh BN statistics are 0 and 1, so that BN divides by almost 1.
        kernel, groups = own["kernel"], x.shape[-1] // own["kernel"].shape[2]
        pads = [(kernel.shape[0] // 2,) * 2] * 2
        names = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, None, None, names, groups
        ) / np.sqrt(1 + EPSILON)

    def separable(x, own):
        return nn.relu(conv(conv(x, own["depthwise"], 2), own["pointwise"]))

    left, right = variables["params"]["left"], variables["params"]["right"]
    middle = nn.relu(conv(x, right["conv"]))
    both = jnp.concatenate([separable(x, left), separable(middle, right["separable"])], -1)
    np.testing.assert_allclose(out, shuffle(both), rtol=0, atol=1e-5)


@pytest.mark.parametrize("halves,left,right", [(False, 3, 5), (True, 4, 4)])
def test_the_first_unit_of_a_stage_keeps_its_channels_or_gives_halves(halves, left, right):
    unit = ShuffleUnit(features=8, stride=2, first=True, halves=halves)
    x = jax.ShapeDtypeStruct((2, 7, 6, 3), jnp.float32)
    init = functools.partial(unit.init_with_output, per_block=None, bn="running")
    (out, _), variables = jax.eval_shape(init, jax.random.key(0), x)
    params = variables["params"]
    assert out.shape == (2, 4, 3, 8)
    assert params["left"]["pointwise"]["kernel"].shape == (1, 1, 3, left)
    assert params["right"]["conv"]["kernel"].shape == (1, 1, 3, 4)
    assert params["right"]["separable"]["pointwise"]["kernel"].shape == (1, 1, 4, right)


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"stage_sizes": (), "widths": ()}, "has an empty stage; all >= 1"),
        ({"stage_sizes": (4, 0, 4)}, r"stage_sizes \(4, 0, 4\) has an empty stage"),
        ({"widths": (8, 16)}, r"widths \(8, 16\) are not those of 3 stages"),
        ({"widths": (176, 352, 705)}, "even, and each more than the one before"),
        ({"widths": (24, 48, 96)}, r"widths \(24, 48, 96\) after 24 cannot be"),
        ({"stem_width": 0}, "stem_width 0 is not positive"),
        ({"head_width": 0}, "head_width 0 is not positive"),
        ({"classes": 1}, "classes 1 is too few to tell apart; 2 or more"),
        ({"stem": "large"}, "stem 'large' is unknown; cifar or imagenet"),
        ({"unit": "even"}, "unit 'even' is unknown; uneven or halves"),
    ],
    ids=str,
)
def test_an_architecture_that_cannot_be_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        ShuffleNetV2(**fields)
