"""Law 1 in a step of several passes: each operating point is the network cut out for it by hand.

What a point reads, and to what its maps are resized, is told here for every backbone. Each step has
two points of two scales, of which one shrinks a map and then enlarges the next.
"""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm
from chained import path_of

from jax_elastic.backbones.mobilenet_v1 import MobileNetV1
from jax_elastic.backbones.mobilenet_v2 import MobileNetV2
from jax_elastic.backbones.resizablenet import ResizableNet
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.backbones.shufflenet_v2 import ShuffleNetV2
from jax_elastic.elastic.family import Aux, Draw
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.layers.resize import resize
from jax_elastic.subnet import Subnet

SCALES = (0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, and what is known of it.

    Attributes:
      network: in the reference form, which compiles sooner.
      reads: module -> the place in an operating point that its BN layers have banks for; the
        layers of all others have none.
      maps: stage -> side of its standard map in pixels; 0 is the image.
      points: of a step.
    """

    network: Resizable
    reads: dict[str, int]
    maps: dict[int, int]
    points: tuple[tuple[float, ...], ...] = ((0.5, 1.0), (1.0, 0.5))


def make(backbone, side=8, **fields):
    return Resizable(backbone.reference(), SCALES, side, dtype="float64", **fields)


TWO_BLOCKS = ResNet((1, 2), width=4, classes=5)
CASES = {
    "resnet": Case(
        make(ResNet((1, 2), width=2, classes=5, block="bottleneck")),
        {"stage1": 0, "stage2/first": 0, "stage2/blocks": 1},
        {1: 8, 2: 4},
    ),
    "mobilenet_v1": Case(
        make(MobileNetV1((1, 2), width=2, classes=5), side=16),
        {"stage1": 0, "stage2/first": 0, "stage2/blocks": 1},
        {1: 8, 2: 4},
    ),
    "mobilenet_v2": Case(
        make(
            MobileNetV2(((1, 4, 1, 1), (2, 4, 2, 2)), width=4, last=8, classes=5),
            side=16,
        ),
        {"row1": 0, "row2/first": 0, "row2/blocks": 1, "last": 1},
        {1: 8, 2: 4},
    ),
    "shufflenet_v2": Case(
        make(ShuffleNetV2((2,), (4,), 2, 6, classes=5, stem="cifar")),
        {"stage2/first": 0, "stage2/blocks": 1, "head": 1},
        {1: 8, 2: 4},
    ),
    # Its head draws nothing without dropout. The first unit of all reads the stem's map.
    "resizablenet": Case(
        make(ResizableNet(("33", "35"), (4, 6), 2, 4, 0.0, classes=5, stem="cifar")),
        {"stage1/unit2": 0, "stage2/unit1": 0, "stage2/unit2": 1, "head": 1},
        {1: 8, 2: 4},
    ),
    "places=input": Case(
        make(TWO_BLOCKS, places="input"),
        {"stem": 0, "stage1": 0, "stage2": 0},
        {0: 8},
        ((0.5,), (1.0,)),
    ),
    "shared_bn": Case(make(TWO_BLOCKS, shared_bn=True), {}, {1: 8, 2: 4}),
}


def bank_of(case, point, path):
    """The index that a leaf's own values have in the network's; None where that has no banks."""
    where = [place for name, place in case.reads.items() if path.startswith(f"{name}/")]
    *_, module, leaf = path.split("/")
    if not where or not module.startswith("bn"):
        return ...
    bank = SCALES.index(point[where[0]])
    return (..., bank) if leaf in ("count", "n") else (..., bank, slice(None))


def cut(case, point, tree):
    """The stand-alone network's part of a tree."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf[bank_of(case, point, path_of(path))], tree
    )


def alone(case, point, params, stats, batch):
    """The loss and the moments of one point as a network by itself."""
    own = {"params": cut(case, point, params), "stats": cut(case, point, stats)}
    scales, x, met, moments = dict(zip(case.maps, point, strict=True)), batch["image"], set(), {}
    for part in case.network.backbone.parts():
        if part.stage in scales.keys() - met:
            side = int(scales[part.stage] * case.maps[part.stage])
            x = resize(x, (side, side), "gather")
        met.add(part.stage)
        x, found = part.run(part.take(own), x, "batch")
        if found:
            moments.setdefault(part.path[0], {}).update(found)
    return -(batch["targets"][0] * jax.nn.log_softmax(x[0])).sum(-1).mean(), moments


def together(case, point, params, stats, batch):
    """The same inside the step."""
    draw = Draw(Subnet("resolution", point))
    variables = {"params": params, "stats": stats}
    loss, aux = case.network.loss(variables, batch, draw, jax.random.key(0), "fair", "batch")
    return loss, aux.moments


WAYS = (together, alone)


def batch_of(case):
    images = np.random.default_rng(0).normal(size=(4, *[case.network.side] * 2, 3))
    return {**warm.random_batch(4, dtype="float64"), "image": jnp.asarray(images)}


@functools.cache
def of_step(name):
    """Loss and moments of each point: inside the step, and by themselves."""
    case = CASES[name]
    with jax.enable_x64(True):
        variables = warm.random_weights(case.network)

        # One program, in which XLA compiles once what both ways have in common.
        @jax.jit
        def run(params, stats, batch):
            return [[way(case, q, params, stats, batch) for q in case.points] for way in WAYS]

        return run(variables["params"], variables["stats"], batch_of(case))


@pytest.mark.parametrize("name", CASES)
def test_each_point_inside_the_step_is_the_network_by_itself(name):
    losses, expected = ([loss for loss, _ in points] for points in of_step(name))
    # Law 1, in float64.
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    assert losses[0] != losses[1]
    assert losses[0].dtype == np.float64


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == "resnet" else pytest.mark.slow) for name in CASES],
)
def test_the_gradients_of_a_step_are_those_of_its_networks_by_themselves(name):
    case = CASES[name]
    with jax.enable_x64(True):
        variables, batch = warm.random_weights(case.network), batch_of(case)

        def total(params, way):
            return sum(way(case, q, params, variables["stats"], batch)[0] for q in case.points)

        run = jax.jit(lambda params: [jax.grad(total)(params, way) for way in WAYS])
        found, expected = run(variables["params"])

    # Law 1, in float64; gradients are of size 1.
    chex.assert_trees_all_close(found, expected, rtol=1e-10, atol=1e-10)
    chex.assert_tree_all_finite(found)
    kernels = [leaf for path, leaf in flat(found).items() if path.endswith("kernel")]
    assert all(kernel.any() for kernel in kernels)


@pytest.mark.parametrize("name", CASES)
def test_the_moments_of_a_point_are_in_the_banks_of_its_scales_alone(name):
    case = CASES[name]
    found, alone_found = ([flat(own) for _, own in points] for points in of_step(name))
    expected = [
        {path: in_bank(case, point, path, own, found[0][path]) for path, own in leaves.items()}
        for point, leaves in zip(case.points, alone_found, strict=True)
    ]
    chex.assert_trees_all_close(found, expected, rtol=1e-10, atol=1e-10)


def in_bank(case, point, path, own, like):
    """A stand-alone network's leaf where it stands in the whole one's, and zeros."""
    whole = np.zeros_like(like)
    whole[bank_of(case, point, path)] = own
    return whole


def flat(tree):
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_of(path): np.asarray(leaf) for path, leaf in leaves}


def folded(name, passes):
    """The statistics before and after a step of some of its points, by path."""
    network = CASES[name].network
    with jax.enable_x64(True):
        before = warm.random_weights(network)["stats"]
        moments = [own for _, own in of_step(name)[0][:passes]]
        total = jax.tree.map(lambda *leaves: sum(leaves), *moments)
        after = jax.jit(lambda stats, own: network.fold(stats, Aux(own, {})))(before, total)
    return flat(before), flat(after)


@pytest.mark.parametrize("name", ["resnet", "shared_bn"])
def test_several_passes_update_the_stem_and_what_they_share_once(name):
    _, after = folded(name, 2)
    counts = {path: leaf for path, leaf in after.items() if path.endswith("count")}
    assert counts["stem/bn/count"] == 1
    # With banks each was read by one pass, without by both.
    assert all((count == 1).all() for count in counts.values())


def test_banks_that_no_pass_reads_keep_their_bits():
    before, after = folded("resnet", 1)
    case = CASES["resnet"]
    (other,) = {*case.points} - {case.points[0]}
    kept = [path for path in before if bank_of(case, other, path) is not ...]
    assert len(kept) > 0
    for path in kept:
        unread = bank_of(case, other, path)
        np.testing.assert_array_equal(after[path][unread], before[path][unread], err_msg=path)
    read = bank_of(case, case.points[0], "stage1/first/bn1/count")
    assert after["stage1/first/bn1/count"][read] == 1
