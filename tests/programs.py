"""Losses and gradients of a network as programs that are compiled once and given any numbers."""

import functools

import jax
import jax.numpy as jnp
from warm import random_batch, shapes_of

from jax_elastic.elastic.family import Draw, When
from jax_elastic.subnet import FULL
from jax_elastic.training.trainable import merge, partition

KEY = jax.random.key(0)


def when(objective, phase_epoch=0.0, step=0):
    """A place in training."""
    return When(step, phase_epoch, "joint", step, phase_epoch, 10, objective)


@functools.cache
def forward(network, objective="gated", bn="running", drawn="budget"):
    """The jitted (variables, batch, value, key) -> loss, aux; the draw names the value `drawn`."""

    @jax.jit
    def function(variables, batch, value, key):
        draw = Draw(FULL, values={drawn: value})
        return network.loss(variables, batch, draw, key, objective, bn)

    return function


@functools.cache
def gradients_of(network, objective="gated", bn="batch", pattern="", drawn="budget"):
    """The jitted (variables, batch, value, key) -> (loss, aux), gradients.

    Gradients are of the parameters that `pattern` finds; the draw names the value `drawn`.
    """

    @jax.jit
    def function(variables, batch, value, key):
        trainable, frozen = partition(variables["params"], pattern)

        def loss(trainable):
            both = {"params": merge(trainable, frozen), "stats": variables["stats"]}
            draw = Draw(FULL, values={drawn: value})
            return network.loss(both, batch, draw, key, objective, bn)

        return jax.value_and_grad(loss, has_aux=True)(trainable)

    return function


@functools.cache
def gradient_program(network, objective="gated", bn="batch", pattern=""):
    """The same of a budget, compiled for a batch of 8."""
    example = shapes_of(network), random_batch(8), jnp.float32(0.5), KEY
    return gradients_of(network, objective, bn, pattern).lower(*example).compile()


def value_aux_and_gradients(variables, network, objective="gated", bn="batch", pattern=""):
    """The program above for one batch of noise at S = 0.5."""
    program = gradient_program(network, objective, bn, pattern)
    (value, aux), gradients = program(variables, random_batch(8), jnp.float32(0.5), KEY)
    return value, aux, gradients


def mean_of(sums, name):
    """The mean of a metric over the images of a batch."""
    total, count = sums[name]
    return float(total / count)


def has_gradient(tree):
    """Whether each leaf has one, and of a stack each of its blocks."""
    return [
        bool(part.any())
        for path, leaf in jax.tree.leaves_with_path(tree)
        for part in (leaf if "blocks" in str(path) else [leaf])
    ]
