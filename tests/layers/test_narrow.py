"""The product is the convolution."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jax_elastic.layers.conv import native_conv
from jax_elastic.layers.narrow import narrow_conv


@functools.partial(jax.jit, static_argnums=2)
def both(x, kernel, stride):
    return narrow_conv(x, kernel, stride), native_conv(x, kernel, stride)


def assert_one_function(sides, size, channels, stride):
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(rng.normal(size=(2, *sides, channels[0])))
        kernel = jnp.asarray(rng.normal(size=(*size, *channels)))

        ours, theirs = both(x, kernel, stride)

        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


# A window wider than the map, an even one, a map of one column, a stride that leaves a remainder.
@pytest.mark.parametrize(
    "sides,size,channels,stride",
    [
        ((2, 3), (5, 5), (2, 3), 1),
        ((5, 6), (2, 4), (3, 1), 2),
        ((6, 1), (3, 1), (1, 4), 1),
        ((5, 6), (3, 3), (4, 5), 3),
    ],
)
def test_values_are_those_of_a_convolution(sides, size, channels, stride):
    assert_one_function(sides, size, channels, stride)


@pytest.mark.slow
@hypothesis.given(
    sides=st.tuples(*[st.integers(1, 6)] * 2),
    size=st.tuples(*[st.integers(1, 5)] * 2),
    channels=st.tuples(*[st.integers(1, 5)] * 2),
    stride=st.integers(1, 3),
)
def test_values_are_those_of_a_convolution_whatever_the_shapes(sides, size, channels, stride):
    hypothesis.assume(all(side + 2 * (k // 2) >= k for side, k in zip(sides, size, strict=True)))
    assert_one_function(sides, size, channels, stride)


def test_bfloat16_is_rounded_once():
    rng = np.random.default_rng(0)
    shapes = (2, 6, 6, 5), (3, 3, 5, 4)
    x, kernel = (jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for shape in shapes)
    exact = native_conv(x.astype(jnp.float32), kernel.astype(jnp.float32))

    ours = narrow_conv(x, kernel)

    assert ours.dtype == jnp.bfloat16
    # Half a unit in the last of 8 bits, and what float32 rounds before.
    error = abs(ours.astype(jnp.float32) - exact)
    np.testing.assert_array_less(error, 2**-8 * 1.001 * abs(exact) + 1e-5)
