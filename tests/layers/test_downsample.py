"""Pooling is the mean over what is there; padding appends zeros and nothing else."""

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jax_elastic.layers.downsample import average_pool_2x2, pad_channels

# Every size compiles once.
SIZES = st.integers(1, 5)
pool = jax.jit(average_pool_2x2)


def means_of_windows(x):
    """Means of 2x2 windows at stride 2: pixels beyond an odd edge are NaN, which no mean counts."""
    b, h, w, c = x.shape
    x = np.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), constant_values=np.nan)
    return np.nanmean(x.reshape(b, -(-h // 2), 2, -(-w // 2), 2, c), axis=(2, 4))


@hypothesis.given(SIZES, SIZES)
def test_pooling_is_the_mean_over_the_pixels_of_each_window(height, width):
    x = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    # A mean of at most four float32 numbers of size 1, added in another order.
    np.testing.assert_allclose(pool(x), means_of_windows(x), atol=1e-6)


def test_windows_over_an_odd_edge_are_means_over_what_is_there():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    pooled = average_pool_2x2(x)[0, :, :, 0]
    np.testing.assert_array_equal(pooled, [[(0 + 1 + 3 + 4) / 4, (2 + 5) / 2], [(6 + 7) / 2, 8]])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_pooling_and_padding_keep_the_dtype(dtype):
    x = jnp.ones((1, 3, 3, 2), dtype)
    assert average_pool_2x2(x).dtype == pad_channels(x, 4).dtype == dtype


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 5, 3)], ids=str)
def test_padding_appends_zero_channels_behind_those_that_are_there(shape):
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    padded = pad_channels(x, 7)
    chex.assert_shape(padded, (*shape[:-1], 7))
    np.testing.assert_array_equal(padded[..., :3], x)
    assert (padded[..., 3:] == 0).all()


def test_padding_to_the_channels_that_are_there_is_the_identity():
    x = jnp.ones((2, 3))
    np.testing.assert_array_equal(pad_channels(x, 3), x)


def test_padding_to_fewer_channels_is_refused():
    with pytest.raises(ValueError, match="negative"):
        pad_channels(jnp.ones((2, 3)), 2)
