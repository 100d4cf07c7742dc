"""Computing in bfloat16: parameters, statistics, gates and losses stay float32."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import SMALL
from warm import random_batch, shapes_of, some_draws, warmed

BATCH = 8


def in_bfloat16(name):
    return dataclasses.replace(SMALL[name], dtype="bfloat16")


def value_and_grads(network):
    """(variables, batch, key) -> ((loss, aux), gradients) of the last objective's first draw."""
    objective = network.objectives[-1]
    draw, *_ = some_draws(network, objective)

    def run(variables, batch, key):
        def loss(params):
            both = {**variables, "params": params}
            return network.loss(both, batch, draw, key, objective, "batch")

        return jax.value_and_grad(loss, has_aux=True)(variables["params"])

    return run


@pytest.mark.parametrize("name", SMALL)
def test_gradients_statistics_and_losses_of_every_family_are_float32(name):
    network = in_bfloat16(name)
    batch = random_batch(BATCH, classes=network.targets)
    key = jax.random.key(0)
    found = jax.eval_shape(value_and_grads(network), shapes_of(network), batch, key)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(found)}
    # Integers count the passes of BN.
    assert dtypes <= {jnp.dtype("float32"), jnp.dtype("int32")}


def test_a_step_in_bfloat16_is_near_the_step_in_float32():
    variables = warmed(SMALL["plain"])
    batch, key = random_batch(BATCH), jax.random.key(0)
    (loss, _), _ = jax.jit(value_and_grads(in_bfloat16("plain")))(variables, batch, key)
    (expected, _), _ = jax.jit(value_and_grads(SMALL["plain"]))(variables, batch, key)
    # Not the same numbers, for then nothing would be bfloat16; its 8 bits through a few layers.
    assert float(loss) != float(expected)
    np.testing.assert_allclose(loss, expected, rtol=3e-2)
