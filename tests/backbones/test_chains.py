"""What every backbone that says its parts keeps: they are the network, one after the other."""

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

from jax_elastic.backbones.mobilenet_v1 import MobileNetV1
from jax_elastic.backbones.mobilenet_v2 import MobileNetV2
from jax_elastic.backbones.resizablenet import ResizableNet
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.backbones.shufflenet_v2 import ShuffleNetV2
from jax_elastic.layers import norm
from jax_elastic.macs import count_macs

# Stacks, blocks that stand alone and, of units, all kinds; stages with and without a second one.
SMALL = {
    "resnet": ResNet((2, 1), width=4, classes=3),
    "bottlenecks": ResNet((1, 2), width=2, classes=3, block="bottleneck"),
    "mobilenet_v1": MobileNetV1((1, 3), width=2, classes=3),
    "mobilenet_v2": MobileNetV2(
        ((1, 4, 1, 1), (2, 5, 3, 2), (3, 5, 1, 1)), width=4, last=8, classes=3
    ),
    "shufflenet_v2": ShuffleNetV2((1, 3), (4, 6), 3, 5, classes=3, stem="cifar"),
    "halves": ShuffleNetV2((2,), (4,), 2, 5, classes=3, unit="halves"),
    "resizablenet": ResizableNet(("33", "5", "7X"), (4, 6, 8), 2, 5, classes=3, stem="cifar"),
}
PAPER = {
    "resnet": ResNet((3, 4, 6, 3), 64, 1000, "bottleneck", "imagenet"),
    "mobilenet_v1": MobileNetV1(),
    "mobilenet_v2": MobileNetV2(),
    "shufflenet_v2": ShuffleNetV2(),
    "resizablenet": ResizableNet(),
}
CIFAR = {
    "resnet": ResNet((3, 4, 6, 3), 64, 10, "bottleneck"),
    "mobilenet_v1": MobileNetV1(classes=10, stem="cifar"),
    "mobilenet_v2": MobileNetV2(classes=10, stem="cifar"),
    "shufflenet_v2": ShuffleNetV2(classes=10, stem="cifar"),
    "resizablenet": ResizableNet(classes=10, stem="cifar"),
}
IMAGES = np.random.default_rng(0).normal(size=(4, 10, 9, 3))


def macs_of(net, side):
    """The MACs of the whole network for a square image."""
    module = net.reference().module()
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    return count_macs(functools.partial(module.apply, bn="running"), shapes_of(net), image)


@pytest.mark.parametrize("name", SMALL)
def test_the_parts_one_after_the_other_are_the_network(name):
    reference = SMALL[name].reference()  # its kernels compile sooner
    with jax.enable_x64(True):
        variables = random_variables(reference)

        # One program, in which XLA compiles once what both have in common.
        @jax.jit
        def run(variables, images):
            return [form(reference, variables, images, "batch") for form in (in_parts, whole)]

        (found, moments), (expected, expected_moments) = run(variables, IMAGES)

        # Law 1: every form agrees to 1e-10 in float64, relative to logits of size 1 to 100.
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
        complete, wanted = (
            norm.complete_moments(variables["stats"], own) for own in (moments, expected_moments)
        )
    chex.assert_trees_all_close(complete, wanted, rtol=1e-10, atol=1e-10)
    assert found.shape == (4, 3)
    assert moments["stem"]["bn"]["n"] == 1


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "shufflenet_v2"])
def test_the_reference_form_is_the_same_function(name):
    net = SMALL[name]
    with jax.enable_x64(True):
        variables = random_variables(net)

        @jax.jit
        def run(variables, images):
            forms = (net, net.reference())
            return [whole(form, variables, images, "running")[0] for form in forms]

        found, expected = run(variables, IMAGES)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name,net", [*SMALL.items(), *PAPER.items()])
def test_the_parts_read_every_variable_once(name, net):
    variables = shapes_of(net)
    assert sorted(names_read(net, variables)) == sorted(names_of(variables))


@pytest.mark.parametrize("name", SMALL)
def test_parts_of_equal_networks_are_equal_so_that_what_is_compiled_is_found(name):
    again = type(SMALL[name])(**vars(SMALL[name]))
    assert again.parts() == SMALL[name].parts()


# docs/choices.md N3 to N6; those of residual networks are in test_resnet.py.
@pytest.mark.parametrize(
    "net,params,macs",
    [
        (MobileNetV1(), 4_231_976, 568_740_352),
        (MobileNetV2(), 3_504_872, 300_774_272),
        (ShuffleNetV2(), 3_507_720, 298_970_656),
        (ShuffleNetV2(unit="halves"), 3_503_624, 295_759_392),
        (ResizableNet(), 6_770_500, 360_050_704),
    ],
    ids=["mobilenet_v1", "mobilenet_v2", "shufflenet_v2", "halves", "resizablenet"],
)
def test_parameters_and_macs_are_the_published_ones(net, params, macs):
    assert (size_of(shapes_of(net)["params"]), macs_of(net, 224)) == (params, macs)


IMAGENET_MAPS = {name: (112, 56, 28, 14, 7)[-5 if "mobile" in name else -4 :] for name in PAPER}
CIFAR_MAPS = {name: (32, 32, 16, 8, 4)[-5 if "mobile" in name else -4 :] for name in PAPER}
ODD_MAPS = {name: (97, 49, 25, 13, 7)[-5 if "mobile" in name else -4 :] for name in PAPER}


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize(
    "nets,side,maps",
    [(PAPER, 224, IMAGENET_MAPS), (PAPER, 193, ODD_MAPS), (CIFAR, 32, CIFAR_MAPS)],
    ids=["imagenet", "odd", "cifar"],
)
def test_the_first_part_of_each_stage_reads_its_standard_map(name, nets, side, maps):
    assert maps_of(nets[name], side) == nets[name].standard(side) == maps[name]


@pytest.mark.parametrize("name", ["shufflenet_v2", "resizablenet"])
def test_a_stage_of_one_unit_has_its_map_read_by_the_unit_of_the_next(name):
    assert maps_of(SMALL[name], 10) == SMALL[name].standard(10) == (10, 5, 3)


def test_variables_of_another_network_are_refused():
    *_, last, _ = ResNet((2, 1, 1), width=4).parts()
    with pytest.raises(ValueError, match="stage3"):
        last.take(shapes_of(SMALL["resnet"]))
