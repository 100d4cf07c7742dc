"""I-ResNeXt: nested widths, each a plain ResNeXt on a part of the variables."""

import dataclasses

import chex
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm
from thorough import thorough

from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.data.augment import normalise
from jax_elastic.data.datasets import load
from jax_elastic.elastic.anytime.iresnext import IResNeXt
from jax_elastic.elastic.family import Aux, Draw
from jax_elastic.elastic.plain import Plain
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.pretrained import pretrained
from jax_elastic.subnet import FULL, Subnet

SMALL = families.SMALL["iresnext"]
SHARED = dataclasses.replace(SMALL, shared_bn=True)
ABLATION, CIFAR = (IResNeXt(ResNeXt((n, n, n))) for n in (3, 7))
STATISTICS = {"own": SMALL, "shared": SHARED}
CASES = thorough(
    [(name, k) for name in STATISTICS for k in (1, 2)],
    lambda name, k: (name, k) in [("own", 1), ("shared", 2)],
)


def value_and_grad(network, draw, variables, batch, bn="batch"):
    def loss(params):
        both = {**variables, "params": params}
        return network.loss(both, batch, draw, jax.random.key(0), "anytime", bn)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(variables["params"])


def in_float64(network):
    """A network, random weights and a batch of it; under x64."""
    network = dataclasses.replace(network, dtype="float64")
    variables = warm.cast(warm.random_weights(network), "float64")
    return network, variables, warm.random_batch(4, dtype="float64")


@pytest.mark.parametrize("name,k", CASES)
def test_a_traced_width_gives_the_loss_the_gradients_and_the_moments_of_a_static_one(name, k):
    with jax.enable_x64(True):
        network, variables, batch = in_float64(STATISTICS[name])
        static = value_and_grad(network, Draw(Subnet("width", (k,))), variables, batch)
        where = jnp.array([k - 1], jnp.int32)
        traced = value_and_grad(network, Draw(None, where), variables, batch)
        # Law 1: 1e-10 in float64; all numbers here are of size 1.
        chex.assert_trees_all_close(traced, static, rtol=0, atol=1e-10)


def by_hand(variables, k):
    """The variables of sub-network k of 2, each array cut with its shape written out."""
    middle = {"stage1": 8 * k // 2, "stage2": 16 * k // 2}
    found = {}
    for collection in ("params", "stats"):
        tree = variables[collection]
        found[collection] = {"head": tree[f"exit{k}"]}
        for stage, m in middle.items():
            block = tree[stage]["blocks"]
            cut = {name: jax.tree.map(lambda a: a[:, k - 1], block[name]) for name in block}
            for name in ("bn2", "bn3"):
                cut[name] = {key: a if a.ndim == 1 else a[:, :m] for key, a in cut[name].items()}
            if collection == "params":
                for name in ("conv1", "conv2", "conv3"):
                    kernel = block[name]["kernel"]
                    kernel = kernel[..., :m, :] if name == "conv3" else kernel[..., :m]
                    cut[name] = {"kernel": kernel}
            found[collection][stage] = {"blocks": cut}
    found["params"]["stem"] = variables["params"]["stem"]
    return found


@pytest.mark.parametrize("k", [1, 2])
def test_a_sub_network_is_the_plain_network_of_weights_cut_out_by_hand(k):
    with jax.enable_x64(True):
        network, variables, batch = in_float64(SMALL)
        thin = Plain(dataclasses.replace(network.backbone, branches=2 * k), "float64")
        own = by_hand(variables, k)
        expected = thin.loss(own, batch, Draw(FULL), jax.random.key(0), "base", "batch")[0]
        draw = Draw(Subnet("width", (k,)))
        found = network.loss(variables, batch, draw, jax.random.key(0), "anytime", "batch")[0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def stepped(network):
    """Statistics before a step and after it."""
    variables, batch = warm.random_weights(network), warm.random_batch(8)
    draws, key = warm.some_draws(network, "anytime"), jax.random.key(0)

    # One program, in which XLA compiles once what the sub-networks have in common.
    @jax.jit
    def moments(variables, batch):
        found = [network.loss(variables, batch, d, key, "anytime", "batch") for d in draws]
        return [aux.moments for _, aux in found]

    parts = moments(variables, batch)
    total = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    return variables["stats"], network.fold(variables["stats"], Aux(total, {})), parts


def test_each_sub_network_moves_its_own_statistics_by_its_own_moments():
    before, after, (thin, _) = stepped(SMALL)
    old, new = (tree["stage2"]["blocks"]["bn2"] for tree in (before, after))
    np.testing.assert_array_equal(new["count"], np.ones((2, 2)))
    moments = thin["stage2"]["blocks"]["bn2"]
    expected = 0.9 * old["mean"][:, 0, :8] + 0.1 * moments["mean"][:, 0, :8]
    np.testing.assert_allclose(new["mean"][:, 0, :8], expected, rtol=1e-6)


def test_shared_statistics_average_over_the_sub_networks_that_have_the_channel():
    before, after, (thin, full) = stepped(SHARED)
    old, new, a, b = (tree["stage2"]["blocks"]["bn3"] for tree in (before, after, thin, full))
    means = (a["mean"] + b["mean"])[:, :8] / 2, b["mean"][:, 8:]
    expected = 0.9 * old["mean"] + 0.1 * jnp.concatenate(means, -1)
    np.testing.assert_allclose(new["mean"], expected, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(new["count"], np.ones(2))
    assert set(after) >= {"exit1", "exit2"}


@pytest.mark.parametrize(
    "network,printed",
    [
        (ABLATION, [7.8, 13.9, 19.9, 26.0, 32.0, 38.0, 44.1, 50.1]),
        pytest.param(
            *(CIFAR, [15.9, 30.0, 44.1, 58.2, 72.3, 86.4, 100.5, 114.6]), marks=pytest.mark.slow
        ),
    ],
    ids=["29-layers", "65-layers"],
)
def test_macs_are_those_of_the_paper_to_the_printed_digit(network, printed):
    costs = CostModel(network, (32, 32, 3))
    found = [round(costs.cost(subnet).full / 1e6, 1) for subnet in network.subnets]
    assert found == printed


def test_branches_that_the_sub_networks_cannot_share_are_refused():
    with pytest.raises(UsageError, match="8 branches cannot be shared by 3 sub-networks"):
        IResNeXt(subnetworks=3)


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize("part", ["thin", "slicing"])
def test_a_sub_network_that_is_not_there_is_refused(part, k):
    with pytest.raises(UsageError, match=rf"width:{k} does not fit .* from \{{1, 2\}}"):
        getattr(SMALL, part)(k)


@pytest.mark.slow
@pytest.mark.parametrize("dtype,tolerance", [("float64", 1e-10), ("float32", 1e-5)])
def test_a_trained_sub_network_is_the_same_cut_out_and_inside_the_whole(dtype, tolerance):
    trained, variables, experiment = pretrained("iresnext_digits")
    images = normalise(load(experiment.data, "test").images[:16], experiment.data)
    with jax.enable_x64(dtype == "float64"):
        network = dataclasses.replace(trained, dtype=dtype)
        variables, images = warm.cast(variables, dtype), jnp.asarray(images, dtype)
        own = network.slicing(2).network(variables)
        alone = jax.jit(network.thin(2).predict, static_argnums=2)
        expected = alone(own, images, (FULL,), None)[0].logits[0]
        width = Subnet("width", (2,))
        found = build_engine(network, variables, "masked", [width])(images, width).logits[0]
        # Law 1, of the largest logit.
        atol = tolerance * np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
