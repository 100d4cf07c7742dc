"""MobileNets: what their resized maps cost, their blocks, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chained import shapes_of

from jax_elastic.backbones.mobilenet_v1 import MobileNetV1
from jax_elastic.backbones.mobilenet_v2 import MobileNetV2
from jax_elastic.errors import UsageError
from jax_elastic.macs import count_macs

PAPER = {"v1": MobileNetV1(), "v2": MobileNetV2()}


def macs_when_resized(net, side, tenths):
    """Of the parts, one after the other.

    Args:
      net: the architecture.
      side: of the images.
      tenths: of the standard size that each stage's map is resized to.
    """
    macs, met = 0, {0}
    variables, reference = shapes_of(net), net.reference()
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    for part in reference.parts():
        if part.stage not in met:
            met.add(part.stage)
            to = net.standard(side)[part.stage - 1] * tenths[part.stage - 1] // 10
            x = jax.ShapeDtypeStruct((1, to, to, x.shape[-1]), jnp.float32)

        def run(own, x, part=part):
            return part.run(own, x, "running")[0]

        own = part.take(variables)
        macs += count_macs(run, own, x)
        x = jax.eval_shape(run, own, x)
    return macs


# Resizable networks print 462, 391 and 291 M; docs/choices.md N2.
@pytest.mark.parametrize(
    "tenths,macs",
    [
        ((10, 10, 10, 10, 10), 568.7),
        ((10, 9, 9, 9, 10), 461.6),
        ((9, 8, 9, 8, 9), 391.0),
        ((8, 7, 9, 7, 7), 291.5),
    ],
    ids=str,
)
def test_resized_between_its_parts_mobilenet_v1_has_the_published_macs(tenths, macs):
    assert round(macs_when_resized(PAPER["v1"], 224, tenths) / 1e6, 1) == macs


@pytest.mark.parametrize("name", PAPER)
def test_each_map_is_resized_before_a_block_of_stride_1(name):
    seen, firsts = {0}, []
    for part in PAPER[name].parts():
        if part.stage not in seen:
            firsts.append(part.module.stride)
        seen.add(part.stage)
    assert firsts == [1] * 5


def test_blocks_that_do_not_expand_have_no_expansion():
    params = shapes_of(PAPER["v2"])["params"]
    assert set(params["row1"]["first"]) == {
        "depthwise",
        "bn_depthwise",
        "project",
        "bn_project",
    }
    assert params["row2"]["first"]["expand"]["kernel"].shape == (1, 1, 16, 96)


def test_a_block_of_stride_1_that_keeps_its_width_adds_its_input():
    # Without the last BN's scale and bias nothing is added to the input.
    net = MobileNetV2(((1, 4, 2, 1),), width=4, last=8, classes=3)
    variables = shapes_of(net)
    closed = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
    _, blocks, *_ = net.parts()
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 4)).astype(np.float32)

    out, _ = jax.jit(blocks.run, static_argnums=2)(blocks.take(closed), x, "running")

    np.testing.assert_array_equal(out, x)


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: MobileNetV1(()), r"stage_sizes \(\) has a stage without a pair of stride 1"),
        (lambda: MobileNetV1((0, 2)), r"\(0, 2\) has a stage without a pair of stride 1; at le"),
        (lambda: MobileNetV1((1, 2, 1)), "at least 1 pair in the first stage and 2 in each oth"),
        (lambda: MobileNetV1(width=0), "width 0 is not positive"),
        (lambda: MobileNetV1(classes=1), "classes 1 is too few to tell apart; 2 or more"),
        (lambda: MobileNetV1(stem="digits"), "stem 'digits' is unknown; there are: cifar, imag"),
        (lambda: MobileNetV2(()), r"rows \(\) leave a map without a block of stride 1"),
        (lambda: MobileNetV2(((1, 4, 2, 1), (6, 4, 1, 2))), "behind each stride 2"),
        (lambda: MobileNetV2(((1, 4, 2, 2),)), "at least 1 on the stem's map"),
        (lambda: MobileNetV2(((1, 4, 2, 3),)), r"row \(1, 4, 2, 3\) is none .* stride 1 or 2"),
        (lambda: MobileNetV2(((1, 4, 2),)), r"row \(1, 4, 2\) is none .* \(expansion, features"),
        (lambda: MobileNetV2(((0, 4, 2, 1),)), r"row \(0, 4, 2, 1\) is none"),
        (lambda: MobileNetV2(last=0), "last 0 is not positive"),
        (lambda: MobileNetV2(width=-1), "width -1 is not positive"),
        (lambda: MobileNetV2(classes=1), "classes 1 is too few to tell apart; 2 or more"),
        (lambda: MobileNetV2(stem="digits"), "stem 'digits' is unknown; there are: cifar, imag"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
