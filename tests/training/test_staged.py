"""Segment by segment the host computes the gradients that one program computes."""

import dataclasses

import chex
import families
import jax
import numpy as np
import pytest
import warm

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.training.mesh import make_mesh
from jax_elastic.training.phases import Phase
from jax_elastic.training.staged import StagedGradients
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import make_gradients

PHASE = Phase("only", 1.0, "fair", 0.1, batch_size=4)
# All that a form has to respect: a frozen part, soft targets, running statistics.
PHASES = {
    "batch": Phase("only", 1.0, "fair", 0.1, trainable="^stage2/first", label_smoothing=0.1),
    "running": Phase("only", 1.0, "fair", 0.1, bn="running"),
}
STAGED = {name: n for name, n in families.SMALL.items() if "staged" in n.forms}


def state_of(network):
    variables = warm.random_weights(network)
    return TrainState(variables["params"], variables["stats"], (), np.int32(3), np.uint32(0))


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
@pytest.mark.parametrize("name", STAGED)
def test_the_gradients_are_those_of_one_program_in_float64(name, phase):
    with jax.enable_x64(True):
        network = dataclasses.replace(STAGED[name], dtype="float64")
        state, batch = state_of(network), warm.random_batch(4, dtype="float64")
        draw = warm.some_draws(network, phase.objective)[0]

        staged = StagedGradients(network, phase, make_mesh(jax.devices()[:1]))
        found = staged(state, batch, (draw,), np.int32(1))

        one = jax.jit(make_gradients(network, phase, "sliced"))(state, batch, (draw,), 1)
        assert jax.tree.leaves(one)[-1].dtype == np.float64
        chex.assert_trees_all_close(found, one, rtol=1e-10, atol=1e-10)


def test_as_many_programs_as_segments_and_neighbouring_scales_serve_every_combination():
    network = Resizable(ResNet((1, 1), width=2, classes=5), scales=(0.5, 0.75, 1.0), side=8)
    state, batch = state_of(network), warm.random_batch(2)
    staged = StagedGradients(network, PHASE, make_mesh(jax.devices()[:1]))
    stages, scales = 2, 3
    # The resize and the stem; a stretch for each stage and scale; a resize from each map to each.
    most = 2 + stages * scales + scales + (stages - 1) * scales**2

    for seed in range(6):
        for draw in warm.some_draws(network, "fair", seed):
            staged(state, batch, (draw,), np.int32(0))

    assert staged.forward._cache_size() <= most
    assert staged.backward._cache_size() <= most
