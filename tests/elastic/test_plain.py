"""A plain network over every backbone: what it costs and holds, and what its dropout draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm

from jax_elastic.backbones.resizablenet import ResizableNet
from jax_elastic.backbones.shufflenet_v2 import ShuffleNetV2
from jax_elastic.elastic.plain import Plain
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.subnet import FULL

DROPOUT = Plain(ResizableNet(("3",), (4,), 2, 8, classes=5, stem="cifar"))


@pytest.fixture(scope="module")
def variables():
    return warm.random_weights(DROPOUT)


# docs/choices.md N5 and N6.
@pytest.mark.parametrize(
    "backbone,macs",
    [
        (ShuffleNetV2(), 298_970_656),
        (ResizableNet(), 360_050_704),
    ],
    ids=["shufflenet_v2", "resizablenet"],
)
def test_the_segments_of_a_chain_cost_what_it_costs_whole(backbone, macs):
    assert CostModel(Plain(backbone), (224, 224, 3)).cost(FULL).full == macs


def test_the_segments_of_a_chain_take_every_array_once():
    variables = warm.shapes_of(DROPOUT)

    taken = [segment.take(variables) for segment in DROPOUT.segments(FULL)]

    assert sorted(map(id, jax.tree.leaves(taken))) == sorted(map(id, jax.tree.leaves(variables)))


def test_training_drops_what_its_key_says_and_reaches_every_parameter(variables):
    batch = warm.random_batch(4)
    (draw,) = warm.some_draws(DROPOUT, "base")

    @jax.jit
    @jax.value_and_grad
    def gradient(params, key):
        own = {**variables, "params": params}
        return DROPOUT.loss(own, batch, draw, key, "base", "running")[0]

    (one, reached), (again, _), (other, _) = (
        gradient(variables["params"], jax.random.key(seed)) for seed in (0, 0, 1)
    )

    assert one == again != other
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in jax.tree.leaves(reached))


def test_predicting_drops_nothing(variables):
    images = jnp.asarray(warm.random_images(4))
    never = Plain(ResizableNet(("3",), (4,), 2, 8, dropout=0.0, classes=5, stem="cifar"))
    (draw,), batch = warm.some_draws(never, "base"), warm.random_batch(4)

    @jax.jit
    def both():
        (found,) = DROPOUT.predict(variables, images, (FULL,), None)
        loss, _ = never.loss(variables, batch, draw, jax.random.key(0), "base", "running")
        return found.logits[0], loss

    logits, loss = both()

    expected = -(jax.nn.log_softmax(logits) * batch["targets"][0]).sum(-1).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)  # float32
