"""MobileNets: published sizes, and parts that are the network one after the other."""

import functools
from collections import Counter

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_elastic.backbones.mobilenet_v1 import MobileNetV1
from jax_elastic.backbones.mobilenet_v2 import MobileNetV2
from jax_elastic.errors import UsageError
from jax_elastic.macs import count_macs

# Each has a stack of two blocks, and blocks that stand alone; one is as wide as its input.
SMALL = {
    "v1": MobileNetV1((1, 3), width=2, classes=3),
    "v2": MobileNetV2(((1, 4, 1, 1), (2, 5, 3, 2), (3, 5, 1, 1)), width=4, last=8, classes=3),
}
PAPER = {"v1": MobileNetV1(), "v2": MobileNetV2()}
CIFAR = {
    "v1": MobileNetV1(classes=10, stem="cifar"),
    "v2": MobileNetV2(classes=10, stem="cifar"),
}
IMAGES = np.random.default_rng(0).normal(size=(4, 17, 14, 3))


@functools.cache
def shapes_of(net, side=32):
    """The shapes of a network's variables."""
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    init = functools.partial(net.module().init, bn="running")
    return jax.eval_shape(init, jax.random.key(0), image)


@functools.cache
def variables_of(net):
    """In float64, every number random, variances and scales positive."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if path[-1].key == "count":
            return np.ones(leaf.shape, np.int32)
        normal = path[-1].key in ("kernel", "bias", "mean")
        return rng.normal(size=leaf.shape) if normal else rng.uniform(0.5, 2, leaf.shape)

    with jax.enable_x64(True):
        drawn = jax.tree_util.tree_map_with_path(draw, shapes_of(net))
        return jax.tree.map(jnp.asarray, drawn)


def macs_of(net, side):
    """The MACs of the whole network for a square image."""
    module = net.reference().module()
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return count_macs(lambda v, x: module.apply(v, x, "running"), shapes_of(net), image)


def resized_maps(net, side, tenths):
    """Through the parts: the side of each stage's map as it came, and the MACs.

    Args:
      net: the architecture.
      side: of the images.
      tenths: of the standard size that each stage's map is resized to.
    """
    came, macs = {}, 0
    variables, reference = shapes_of(net), net.reference()
    x = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    for part in reference.parts():
        if part.stage and part.stage not in came:
            came[part.stage] = x.shape[1]
            to = net.standard(side)[part.stage - 1] * tenths[part.stage - 1] // 10
            x = jax.ShapeDtypeStruct((1, to, to, x.shape[-1]), jnp.float32)

        def run(own, x, part=part):
            return part.run(own, x, "running")[0]

        own = part.take(variables)
        macs += count_macs(run, own, x)
        x = jax.eval_shape(run, own, x)
    return tuple(came.values()), macs


@pytest.mark.parametrize(
    "name,params,macs", [("v1", 4_231_976, 568_740_352), ("v2", 3_504_872, 300_774_272)]
)
def test_parameters_and_macs_are_the_published_ones(name, params, macs):
    net = PAPER[name]
    own = jax.tree.leaves(shapes_of(net)["params"])
    assert (sum(leaf.size for leaf in own), macs_of(net, 224)) == (params, macs)


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
    _, counted = resized_maps(PAPER["v1"], 224, tenths)
    assert round(counted / 1e6, 1) == macs


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize(
    "nets,side,maps",
    [
        (PAPER, 224, (112, 56, 28, 14, 7)),
        (PAPER, 193, (97, 49, 25, 13, 7)),
        (CIFAR, 32, (32, 32, 16, 8, 4)),
    ],
    ids=["imagenet", "odd", "cifar"],
)
def test_unless_resized_maps_are_the_standard_ones_and_parts_cost_what_the_network_does(
    name, nets, side, maps
):
    net = nets[name]
    came, macs = resized_maps(net, side, (10,) * 5)
    assert came == net.standard(side) == maps
    assert macs == macs_of(net, side)


@pytest.mark.parametrize("name", PAPER)
def test_each_map_is_resized_before_a_block_of_stride_1(name):
    seen, firsts = {0}, []
    for part in PAPER[name].parts():
        if part.stage not in seen:
            firsts.append(part.module.stride)
        seen.add(part.stage)
    assert firsts == [1] * 5


@pytest.mark.parametrize("net", [*SMALL.values(), *PAPER.values()], ids=[*SMALL, *PAPER])
def test_parts_read_every_variable_once(net):
    variables = shapes_of(net)

    def names(part):
        own = {(c, *part.path): tree for c, tree in part.take(variables).items()}
        return [
            (*place, *(key.key for key in path))
            for place, tree in own.items()
            for path, _ in jax.tree_util.tree_leaves_with_path(tree)
        ]

    read = Counter(name for part in net.parts() for name in names(part))

    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    assert read == Counter(tuple(key.key for key in path) for path in paths)
    assert set(read.values()) == {1}


def whole(net, variables, images, bn):
    """Logits and moments of the network."""
    logits, sown = net.module().apply(variables, images, bn, mutable=["moments"])
    return logits, sown.get("moments")


def one_by_one(net, variables, images, bn):
    """Logits of the reference form's parts one after the other, and each part's moments."""
    x, moments = images, []
    for part in net.reference().parts():
        x, sown = part.run(part.take(variables), x, bn)
        moments.append(sown)
    return x, moments


@pytest.mark.parametrize("bn", ["batch", "running"])
@pytest.mark.parametrize("name", SMALL)
def test_the_parts_of_the_reference_form_one_after_the_other_are_the_network(name, bn):
    net = SMALL[name]
    variables = variables_of(net)
    with jax.enable_x64(True):
        logits, moments = jax.jit(functools.partial(whole, net, bn=bn))(variables, IMAGES)
        expected, by_part = jax.jit(functools.partial(one_by_one, net, bn=bn))(variables, IMAGES)

    # Law 1: every form agrees to 1e-10 in float64, relative to logits of size 1 to 100.
    chex.assert_trees_all_close(logits, expected, rtol=1e-10, atol=1e-10)
    assert logits[0].shape == (4, 3)
    own = [part.take({"moments": moments}).get("moments") for part in net.parts()]
    chex.assert_trees_all_close(own, by_part, rtol=1e-10, atol=1e-10)
    # The classifier has no BN.
    assert [m is not None for m in own] == [bn == "batch"] * (len(own) - 1) + [False]


@pytest.mark.parametrize("name", SMALL)
def test_every_kernel_has_a_finite_gradient(name):
    net = SMALL[name]
    variables = variables_of(net)

    @jax.jit
    @jax.grad
    def gradient(params, stats, images):
        logits, _ = whole(net, {"params": params, "stats": stats}, images, "batch")
        return (jax.nn.log_softmax(logits[0]) * jnp.arange(3)).sum()

    with jax.enable_x64(True):
        gradients = gradient(variables["params"], variables["stats"], IMAGES)

    chex.assert_tree_all_finite(gradients)
    leaves = jax.tree_util.tree_leaves_with_path(gradients)
    assert all(leaf.any() for path, leaf in leaves if path[-1].key == "kernel")


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
    x = jax.random.normal(jax.random.key(0), (2, 5, 4, 4))

    out, _ = blocks.run(blocks.take(closed), x, "running")

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
