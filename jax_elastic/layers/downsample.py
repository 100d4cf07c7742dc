"""Downsampling without parameters: 2x2 average pooling and appended zero channels."""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array


def average_pool_2x2(x: Array) -> Array:
    """The mean of each 2x2 window in ceil mode: (B, H, W, C) -> (B, ceil(H/2), ceil(W/2), C).

    A window that hangs over an odd edge is the mean over what is there.
    """
    b, h, w, c = x.shape
    half_h, half_w = -(-h // 2), -(-w // 2)
    x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)))
    total = x.reshape(b, half_h, 2, half_w, 2, c).sum((2, 4))
    count = np.outer(_window_sizes(h), _window_sizes(w))[:, :, None]
    return total / count.astype(x.dtype)


def _window_sizes(n: int) -> np.ndarray:
    return np.array([2] * (n // 2) + [1] * (n % 2))


def pad_channels(x: Array, channels: int) -> Array:
    """Appends zero channels: (..., C) -> (..., channels); the same array if there are enough."""
    if x.shape[-1] == channels:
        return x
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, channels - x.shape[-1])])
