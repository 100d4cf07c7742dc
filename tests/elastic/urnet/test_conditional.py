"""The conditional gating module, by itself."""

import functools

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jax_elastic.elastic.urnet.conditional import ConditionalGate, pool
from jax_elastic.elastic.urnet.soft import SoftDrop
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.errors import UsageError

KEY = jax.random.key(0)
SHARES = st.floats(0, 1, width=32)


@pytest.fixture(scope="module")
def gate():
    """A gate of reduction 2 over eight channels, and parameters without zeros."""
    module = ConditionalGate(2)
    shapes = jax.eval_shape(module.init, KEY, jnp.ones((1, 8)), jnp.float32(1))
    rng = np.random.default_rng(0)
    draw = functools.partial(rng.normal, scale=0.5)
    params = jax.tree.map(lambda s: jnp.asarray(draw(size=s.shape), s.dtype), shapes)

    @jax.jit
    def apply(variables, images, budget):
        return module.apply(variables, pool(images), budget)

    return apply, params


@hypothesis.given(
    images=hnp.arrays(np.float32, (3, 2, 2, 8), elements=st.floats(0, 4, width=32)), budget=SHARES
)
def test_a_gate_is_two_layers_over_pooled_channels_and_the_repeated_budget(gate, images, budget):
    apply, variables = gate
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    seen = np.concatenate([images.mean((1, 2), np.float64), np.full((3, 8), budget)], 1)
    hidden = np.maximum(seen @ params["hidden"]["kernel"] + params["hidden"]["bias"], 0)
    logits = hidden @ params["logit"]["kernel"] + params["logit"]["bias"]
    # Sums of sixteen float32 products of size 4, twice.
    np.testing.assert_allclose(
        apply(variables, images, jnp.float32(budget)), logits[:, 0], rtol=1e-5, atol=1e-4
    )


def test_a_gate_has_half_its_channels_as_hidden_units_and_starts_without_bias():
    params = ConditionalGate(2).init(KEY, jnp.ones((1, 8)), 1.0)["params"]
    chex.assert_shape(params["hidden"]["kernel"], (16, 4))
    chex.assert_shape(params["logit"]["kernel"], (4, 1))
    assert not params["hidden"]["bias"].any()
    assert not params["logit"]["bias"].any()


def test_a_gate_has_a_hidden_unit_even_where_the_reduction_exceeds_the_channels():
    params = ConditionalGate(16).init(KEY, jnp.ones((1, 8)), 1.0)["params"]
    chex.assert_shape(params["hidden"]["kernel"], (16, 1))


def test_a_gates_logit_moves_with_the_image_and_with_the_budget(gate):
    apply, variables = gate
    images = jnp.abs(jax.random.normal(KEY, (4, 2, 2, 8)))
    logits = apply(variables, images, jnp.float32(0.5))
    slope = jax.grad(lambda s: apply(variables, images[:1], s)[0])(jnp.float32(0.5))
    assert len(np.unique(logits)) == 4
    assert slope != 0


def test_a_bfloat16_map_gets_a_float32_logit(gate):
    apply, variables = gate
    logits = jax.eval_shape(
        apply, variables, jnp.ones((4, 2, 2, 8), jnp.bfloat16), jnp.float32(0.5)
    )
    assert (logits.shape, logits.dtype) == ((4,), jnp.float32)


@pytest.mark.parametrize("kind", [URNet, SoftDrop])
def test_a_reduction_to_no_units_is_refused(kind):
    with pytest.raises(UsageError, match="reduction 0 is not positive"):
        kind(reduction=0)
