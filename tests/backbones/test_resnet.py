"""The CIFAR ResNet: published sizes, and a scan that is the chain of its blocks."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_elastic.backbones.blocks import BasicBlock
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.segments import Take
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.subnet import FULL

NET = ResNet((1, 3, 1), width=4, classes=3)
IMAGES = np.random.default_rng(0).normal(size=(5, 9, 8, 3))


class RowBlock(BasicBlock):
    """A block that hands back its row of `per_block`."""

    def __call__(self, x, per_block, bn):
        return super().__call__(x, None, bn)[0], per_block


@pytest.mark.parametrize(
    "n,params,macs",
    [(5, 464_154, 68_862_592), (18, 1_727_962, 252_887_680)],
    ids=["ResNet-32", "ResNet-110"],
)
def test_parameters_and_macs_are_the_published_ones(n, params, macs):
    model = CostModel(Plain(ResNet((n, n, n))), (32, 32, 3))
    assert model.params(FULL)["params"] == params
    assert model.cost(FULL).full == macs


# docs/choices.md B4: the MACs; parameters as He et al.'s networks are known to have.
# docs/choices.md U1: the gates of ResNet-101 add 0.054 %.
@pytest.mark.parametrize(
    "sizes,params,macs,gates",
    [
        ((3, 4, 6, 3), 25_557_032, 4_089_184_256, 1_991_988),
        ((3, 4, 23, 3), 44_549_160, 7_801_405_440, 4_221_300),
    ],
    ids=["ResNet-50", "ResNet-101"],
)
def test_imagenet_networks_have_the_published_parameters_and_macs(sizes, params, macs, gates):
    backbone = ResNet(sizes, width=64, classes=1000, block="bottleneck", stem="imagenet")
    plain = CostModel(Plain(backbone), (224, 224, 3))
    gated = CostModel(URNet(backbone, reduction=16), (224, 224, 3)).cost(FULL)
    assert plain.params(FULL)["params"] == params
    assert plain.cost(FULL).full == macs
    assert (gated.gates, gated.full - gated.gates) == (gates, macs)


def test_every_bottleneck_but_the_first_of_a_stage_costs_the_same():
    backbone = ResNet((3, 4, 6, 3), width=64, classes=1000, block="bottleneck", stem="imagenet")
    blocks = CostModel(URNet(backbone, reduction=16), (224, 224, 3)).cost(FULL).blocks
    others = [cost for n, cost in enumerate(blocks) if n not in (0, 3, 7, 13)]
    assert set(others) == {218_365_952}


@pytest.fixture(scope="module")
def variables():
    """Of `NET` in float64: every number random, variances and scales positive."""
    shapes = jax.eval_shape(Plain(NET).init, jax.random.key(0), IMAGES.astype(np.float32))
    rng = np.random.default_rng(1)

    def draw(shape):
        return rng.normal(scale=0.2, size=shape) if len(shape) > 3 else rng.uniform(0.5, 2, shape)

    with jax.enable_x64(True):
        return {c: jax.tree.map(lambda s: jnp.asarray(draw(s.shape)), shapes[c]) for c in shapes}


def whole(variables, images, bn):
    """Logits and moments of the network, which scans over stacked blocks."""
    ((logits,), _), sown = NET.module().apply(variables, images, bn, mutable=["moments"])
    return logits, sown.get("moments", {})


def chain(variables, images, bn):
    """Logits and moments of the blocks one by one; moments in execution order."""

    def run(module, take, *args):
        out, sown = module.apply(take(variables), *args, bn, mutable=["moments"])
        moments.append(sown.get("moments", {}))
        return out

    moments = []
    x = run(NET.make_stem(), Take(("stem",)), images)
    for site in NET.sites():
        x, _ = run(NET.make_block_of(BasicBlock, site), Take(site.path, site.index), x, None)
    return NET.make_head().apply(Take(("head",))(variables), x, bn)[0], moments


@pytest.mark.parametrize("bn", ["batch", "running"])
def test_the_scan_over_stacked_blocks_is_the_blocks_one_by_one(variables, bn):
    with jax.enable_x64(True):
        logits, stacked = jax.jit(whole, static_argnums=2)(variables, IMAGES, bn)
        expected, moments = jax.jit(chain, static_argnums=2)(variables, IMAGES, bn)
    # Law 1: every form agrees to 1e-10 in float64. Logits and moments are of size 1.
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-10)
    takes = [Take(("stem",)), *(Take(site.path, site.index) for site in NET.sites())]
    own = [take({**variables, "moments": stacked}).get("moments", {}) for take in takes]
    chex.assert_trees_all_close(own, moments, rtol=0, atol=1e-10)
    assert all((len(jax.tree.leaves(m)) > 0) == (bn == "batch") for m in moments)


def test_each_block_receives_and_gives_its_own_row(variables):
    rows = {"n": jnp.arange(NET.num_blocks)}
    with jax.enable_x64(True):
        module = NET.module(RowBlock)
        _, outs = jax.jit(lambda v, x: module.apply(v, x, "running", rows))(variables, IMAGES)
    np.testing.assert_array_equal(outs["n"], [0, 1, 2, 3, 4])


def test_a_stage_of_one_block_that_changes_the_shape_has_no_stack(variables):
    # Orbax refuses empty arrays, so the stack is absent rather than empty.
    assert set(variables["params"]["stage3"]) == {"first"}
    assert set(variables["params"]["stage1"]) == {"blocks"}
    assert set(variables["params"]["stage2"]) == {"first", "blocks"}


@pytest.mark.parametrize("sizes", [(1,), (1, 3, 1), (2, 2, 2)], ids=str)
def test_sites_name_every_block_of_the_parameter_tree_once(sizes):
    net = ResNet(sizes, width=4, classes=3)
    shapes = jax.eval_shape(Plain(net).init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    params = shapes["params"]
    in_tree = [
        ((stage, name), index)
        for stage in params
        if stage.startswith("stage")
        for name, block in params[stage].items()
        for index in (range(len(block["bn1"]["scale"])) if name == "blocks" else [None])
    ]
    sites = net.sites()
    assert sorted(in_tree, key=str) == sorted([(site.path, site.index) for site in sites], key=str)
    assert len(sites) == net.num_blocks == sum(sizes)


@pytest.mark.parametrize("n", range(5))
def test_a_site_tells_the_shape_and_stride_of_its_block(variables, n):
    site = NET.sites()[n]
    own = Take(site.path, site.index)(variables)["params"]
    features, previous = 4 * 2**site.stage, NET.sites()[max(0, n - 1)].features
    assert site.features == features
    assert own["conv1"]["kernel"].shape == (3, 3, previous, features)
    assert site.stride == (2 if features != previous else 1)


def test_a_block_halves_the_map_in_ceil_mode_and_doubles_the_channels():
    block = BasicBlock(features=8, stride=2)
    (out, _), _ = block.init_with_output(jax.random.key(0), jnp.ones((2, 9, 6, 4)), None, "running")
    chex.assert_shape(out, (2, 5, 3, 8))


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"stage_sizes": ()}, "has an empty stage; all >= 1"),
        ({"stage_sizes": (2, 0, 2)}, r"stage_sizes \(2, 0, 2\) has an empty stage"),
        ({"width": 0}, "width 0 is not positive"),
        ({"classes": 1}, "classes 1 is too few to tell apart; 2 or more"),
        ({"stem": "large"}, "stem 'large' is unknown; there are: cifar, imagenet"),
    ],
    ids=str,
)
def test_an_architecture_that_cannot_be_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        ResNet(**fields)
