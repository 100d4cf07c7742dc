"""ShuffleNetV2: its sizes, the branches of its units, and what is refused."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chained import shapes_of, size_of

from jax_elastic.backbones.shuffle_units import ShuffleUnit, shuffle
from jax_elastic.backbones.shufflenet_v2 import ShuffleNetV2
from jax_elastic.errors import UsageError
from jax_elastic.layers.norm import EPSILON


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
        ({"stem": "large"}, "stem 'large' is unknown; there are: cifar, imagenet"),
        ({"unit": "even"}, "unit 'even' is unknown; uneven or halves"),
    ],
    ids=str,
)
def test_an_architecture_that_cannot_be_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        ShuffleNetV2(**fields)
