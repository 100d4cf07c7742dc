"""Segment by segment the host computes the gradients that one program computes."""

import collections
import dataclasses
import functools

import chex
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm

from jax_elastic.backbones.resizablenet import ResizableNet
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.family import Draw
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.elastic.segments import first_carry
from jax_elastic.training.feed import programs_of
from jax_elastic.training.mesh import make_mesh, replicated, sharded
from jax_elastic.training.phases import Phase
from jax_elastic.training.staged import StagedGradients, links
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import make_gradients
from jax_elastic.training.trainable import is_trained

STAGED = {name: n for name, n in families.SMALL.items() if "staged" in n.forms}
# All that a form has to respect: a frozen part before what is trained and behind, soft targets.
MIDDLE = Phase("only", 1.0, "fair", 0.1, trainable="^stage2/first", label_smoothing=0.1)
HEAD = Phase("only", 1.0, "fair", 0.1, trainable="^head", bn="running")
WHOLE = Phase("only", 1.0, "fair", 0.1)
TINY = Resizable(ResNet((1, 1), width=2, classes=5), (0.5, 1.0), side=8)
SHARED = Resizable(ResNet((1, 1, 1), width=2, classes=5), (0.5, 1.0), side=8, shared_bn=True)
DROPOUT = Resizable(
    ResizableNet(("3",), (4,), 2, 4, 0.5, classes=5, stem="cifar"), (0.5, 1.0), side=8
)


def given(network, phase):
    """A network in float64, a state of it, a batch with one image masked, and a draw."""
    network = dataclasses.replace(network, dtype="float64")
    variables = warm.random_weights(network)
    state = TrainState(variables["params"], variables["stats"], (), np.int32(3), np.uint32(0))
    batch = warm.random_batch(8, dtype="float64")
    batch["mask"] = batch["mask"].at[0].set(0)
    return network, state, batch, warm.some_draws(network, phase.objective)[:1]


CASES = {
    **{name: (network, MIDDLE, 1) for name, network in STAGED.items()},
    "eight devices": (TINY, WHOLE, 8),
    "dropout": (DROPOUT, HEAD, 1),
}


@functools.cache
def found(name):
    """The programs of a case, and what they find."""
    network, phase, devices = CASES[name]
    with jax.enable_x64(True):
        network, state, batch, draws = given(network, phase)
        mesh = make_mesh(jax.devices()[:devices])
        state = jax.device_put(state, replicated(mesh))
        batch = jax.device_put(batch, sharded(mesh))
        staged = StagedGradients(network, phase, mesh)
        return staged, staged(state, batch, draws, np.int32(1))


@pytest.mark.parametrize("name", CASES)
def test_the_gradients_are_those_of_one_program_in_float64(name):
    network, phase, _ = CASES[name]
    _, in_segments = found(name)
    with jax.enable_x64(True):
        network, state, batch, draws = given(network, phase)
        one = jax.jit(make_gradients(network, phase, "sliced"))(state, batch, draws, 1)

        assert jax.tree.leaves(one)[-1].dtype == np.float64
        assert any(leaf.any() for leaf in jax.tree.leaves(one[1]))
        chex.assert_trees_all_close(in_segments, one, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "pattern,asked",
    [
        ("^head", [(), (), (), (), (), ("trainable",)]),
        ("^stage2/first", [(), (), (), ("trainable",), ("carry",), ("carry",)]),
        (".*", [(), ("trainable",), *[("carry",), ("trainable", "carry")] * 2]),
    ],
)
def test_nothing_is_differentiated_but_what_trains_and_what_lies_behind(pattern, asked):
    segments, shapes = TINY.segments(TINY.subnets.fullest), warm.shapes_of(TINY)
    trained = [is_trained(segment.take, shapes, pattern) for segment in segments]
    assert [link.asked for link in links(segments, trained)] == asked


def test_the_backward_of_a_phase_that_trains_the_head_alone_is_one_program():
    staged, _ = found("dropout")
    assert staged.forward._cache_size() == 4
    assert staged.backward._cache_size() == 1


@pytest.mark.parametrize("network", [*STAGED.values(), SHARED], ids=[*STAGED, "shared_bn"])
def test_what_a_feed_calls_a_program_is_given_the_same_shapes_at_every_point(network):
    variables, images = warm.shapes_of(network), jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    handed, met = {}, collections.defaultdict(set)

    for point in network.subnets:
        programs = {names[-1]: names for names in programs_of(Draw(point), "staged", network)}
        carry = first_carry(images, None, None)
        for segment in network.segments(point):
            given = segment.name, str(carry)
            met[programs[segment.name]].add(given)
            if given not in handed:
                train = functools.partial(segment.code.train, bn="batch")
                own = jax.eval_shape(segment.take, variables)
                handed[given], _ = jax.eval_shape(train, own, carry, jax.random.key(0))
            carry = handed[given]

    assert len(handed) < len(network.subnets) * len(programs)
    assert {len(given) for given in met.values()} == {1}
