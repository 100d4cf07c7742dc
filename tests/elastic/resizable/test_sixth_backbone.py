"""A backbone that the package has never seen is resized, and trained, by the family as it is."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import warm

from jax_elastic.backbones.parts import Part
from jax_elastic.backbones.resnet import Head
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.layers.norm import EPSILON, BatchNorm
from jax_elastic.subnet import Subnet
from jax_elastic.training.phases import Phase
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import make_step

SIDE, SCALES = 8, (0.5, 1.0)


class Layer(nn.Module):
    """conv3x3-BN-ReLU: (B, H, W, C) -> (B, H', W', features)."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x, bn):
        layer = nn.Conv(self.features, (3, 3), self.stride, 1, use_bias=False, name="conv")
        return nn.relu(BatchNorm(name="bn")(layer(x), bn))


@dataclasses.dataclass(frozen=True)
class TwoLayers:
    """A convolution that keeps the images' map, one that halves it, and a classifier."""

    classes: int = 5

    def parts(self):
        wide, half = Part(("wide",), Layer(2, 1), 0), Part(("half",), Layer(3, 2), 1)
        return (wide, half, Part(("head",), Head(self.classes), 2))

    def standard(self, side):
        return (side, -(-side // 2))

    def reference(self):
        return self

    def module(self):
        return Whole(self)


class Whole(nn.Module):
    """The network of `TwoLayers`."""

    backbone: TwoLayers

    @nn.compact
    def __call__(self, images, bn):
        x = Layer(2, 1, name="wide")(images, bn)
        return Head(self.backbone.classes, name="head")(Layer(3, 2, name="half")(x, bn), bn)


NETWORK = Resizable(TwoLayers(), SCALES, SIDE)


def random_variables():
    """Every number random, banks and all."""
    rng = np.random.default_rng(0)
    drawn = warm.random_weights(NETWORK)
    stats = jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(0.5, 2, leaf.shape), leaf.dtype), drawn["stats"]
    )
    return {"params": drawn["params"], "stats": stats}


def by_hand(variables, x, scales):
    """The logits of one operating point."""
    first, second = (int(s * side) for s, side in zip(scales, (8, 4), strict=True))

    def layer(x, name, stride, bank=...):
        params, stats = (variables[kind][name] for kind in ("params", "stats"))
        x = jax.lax.conv_general_dilated(
            x,
            params["conv"]["kernel"],
            (stride, stride),
            [(1, 1)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        mean, var, scale, bias = (
            tree["bn"][leaf][bank]
            for tree, leaf in ((stats, "mean"), (stats, "var"), (params, "scale"), (params, "bias"))
        )
        return nn.relu((x - mean) / jnp.sqrt(var + EPSILON) * scale + bias)

    def resized(x, side):
        return jax.image.resize(x, (len(x), side, side, x.shape[-1]), "linear", antialias=False)

    # The first convolution runs on what arrives; the second reads what the first scale determines.
    x = layer(resized(layer(x, "wide", 1), first), "half", 2, SCALES.index(scales[0]))
    x = resized(x, second)
    classifier = variables["params"]["head"]["classifier"]
    return x.mean((1, 2)) @ classifier["kernel"] + classifier["bias"]


def test_each_point_is_resizes_and_convolutions():
    variables = random_variables()
    images = jnp.asarray(warm.random_images(4))
    points = tuple(NETWORK.subnets)

    predict = jax.jit(lambda v, x: NETWORK.predict(v, x, points, None))
    expect = jax.jit(lambda v, x: [by_hand(v, x, point.value) for point in points])

    found = [prediction.logits[0] for prediction in predict(variables, images)]
    expected = expect(variables, images)
    assert len(found) == 4
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_fair_step_trains_it():
    variables, batch = warm.random_weights(NETWORK), warm.random_batch(4)
    optimizer = optax.sgd(0.1)
    state = TrainState(**variables, opt_state=(), step=np.int32(0), seed=np.uint32(0))
    state = state._replace(opt_state=optimizer.init(state.params))
    draws = warm.some_draws(NETWORK, "fair")

    step = make_step(NETWORK, Phase("only", 1.0, "fair", 0.1, batch_size=4), optimizer, "sliced")
    after, sums = jax.jit(step)(state, batch, draws)

    assert len(draws) == 2
    assert np.isfinite(sums["loss"][0])
    moved = jax.tree.map(lambda a, b: np.any(np.asarray(a) != b), after.params, state.params)
    assert all(jax.tree.leaves(moved))
    np.testing.assert_array_equal(after.stats["half"]["bn"]["count"], [1, 1])


def test_its_parts_are_asked_for_once_however_many_points_are(monkeypatch):
    asked = []
    parts = TwoLayers.parts
    monkeypatch.setattr(TwoLayers, "parts", lambda self: asked.append(self) or parts(self))
    network = Resizable(TwoLayers(), SCALES, SIDE)

    every = [network.segments(point) for point in network.subnets]

    assert len(every) == 4
    assert len(asked) == 1


def test_its_operating_points_are_those_of_its_stages_and_no_others():
    NETWORK.check(Subnet("resolution", (0.5, 1.0)))
    with pytest.raises(UsageError, match="resolution"):
        NETWORK.check(Subnet("resolution", (0.5, 1.0, 1.0)))


class FromTheImage(TwoLayers):
    """The same layers where the image is already the first map that can be resized."""

    def parts(self):
        wide, half, head = super().parts()
        second = dataclasses.replace(half, stage=2), dataclasses.replace(head, stage=2)
        return (dataclasses.replace(wide, stage=1), *second)

    def standard(self, side):
        return (side, side)


def test_a_chain_may_be_resized_before_its_first_part():
    network = Resizable(FromTheImage(), SCALES, SIDE)

    stretches = network.stretches(Subnet("resolution", (0.5, 1.0)))

    assert [(side, stretch.bank) for side, stretch in stretches] == [(4, 0), (8, 1)]
