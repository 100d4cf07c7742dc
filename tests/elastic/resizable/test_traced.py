"""A traced operating point is the static one: loss, moments and gradients, in float64."""

import dataclasses
import functools

import chex
import jax
import numpy as np
import pytest
import warm

from jax_elastic.backbones.mobilenet_v1 import MobileNetV1
from jax_elastic.backbones.mobilenet_v2 import MobileNetV2
from jax_elastic.backbones.resizablenet import ResizableNet
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.backbones.shufflenet_v2 import ShuffleNetV2
from jax_elastic.elastic.family import TRACED_FORMS, Draw
from jax_elastic.elastic.resizable.resizable import Resizable

BASIC = ResNet((1, 2), width=2, classes=5)
BOTTLENECKS = dataclasses.replace(BASIC, block="bottleneck", stem="imagenet")
SETTINGS = {"side": 9, "dtype": "float64"}
# Odd maps on larger canvases, maps above the standard, every layer that is told the size of a map.
CASES = {
    "stages": Resizable(BASIC, (0.6, 1.25), **SETTINGS),
    "input": Resizable(BOTTLENECKS, (0.6, 1.0), places="input", **SETTINGS),
    "shared_bn": Resizable(BOTTLENECKS, (0.5, 0.7, 1.0), shared_bn=True, side=19, dtype="float64"),
    "mobilenet_v1": Resizable(MobileNetV1((1, 2), 2, 5), (0.7, 1.25), side=19, dtype="float64"),
    "mobilenet_v2": Resizable(
        MobileNetV2(((1, 4, 1, 1), (2, 4, 2, 2)), 4, 4, 5), (0.7, 1.25), side=19, dtype="float64"
    ),
}


# Without a canvas; each stretch can switch between its scales all the same.
SWITCHED = {
    "shufflenet_v2": Resizable(
        ShuffleNetV2((2,), (4,), 2, 6, classes=5, stem="cifar"), (0.7, 1.25), **SETTINGS
    ),
    "resizablenet": Resizable(
        ResizableNet(("33", "35"), (4, 6), 2, 4, 0.5, classes=5, stem="cifar"),
        (0.7, 1.25),
        **SETTINGS,
    ),
}
ALL = CASES | SWITCHED
CASES_IN_FORMS = [
    *((name, form) for name in CASES for form in ("loss", "switched_loss")),
    *((name, "switched_loss") for name in SWITCHED),
]


@functools.cache
def given(name):
    """Variables, a batch of images that are no squares, and a point of small maps first."""
    network = ALL[name]
    variables = warm.cast(warm.random_weights(network), "float64")
    batch = warm.random_batch(3, dtype="float64")
    batch["image"] = batch["image"][:, :, :7]
    return variables, batch, np.arange(len(network.subnets.dims), dtype=np.int32)


def found(name, loss, draw):
    """((loss, aux), gradients) of a draw, jitted."""
    variables, batch, _ = given(name)

    def of(params, draw):
        both = {"params": params, "stats": variables["stats"]}
        return loss(both, batch, draw, jax.random.key(0), "fair", "batch")

    return jax.jit(jax.value_and_grad(of, has_aux=True))(variables["params"], draw)


@functools.cache
def static(name):
    network, (_, _, where) = ALL[name], given(name)
    return found(name, network.loss, Draw(network.subnets.at(where)))


@pytest.mark.slow  # to compile; `test_sum_of_grads.py` has one network among the fast ones
@pytest.mark.parametrize("name,form", CASES_IN_FORMS)
def test_a_traced_point_is_the_static_one(name, form):
    with jax.enable_x64(True):
        traced = found(name, getattr(ALL[name], form), Draw(None, given(name)[2]))
        chex.assert_trees_all_equal_dtypes(traced, static(name))
        # Law 1: the same sums in another order.
        chex.assert_trees_all_close(traced, static(name), rtol=1e-10, atol=1e-10)


def test_only_backbones_that_are_written_for_it_offer_a_canvas():
    assert Resizable(BASIC).forms >= TRACED_FORMS
    assert not Resizable(ShuffleNetV2(), side=64).forms & TRACED_FORMS
    assert "scan_switch" in Resizable(ShuffleNetV2(), side=64).forms
