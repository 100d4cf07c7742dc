"""A convolution and its two gradients, each as one convolution that is NHWC x HWIO.

JAX's own gradients are convolutions in other layouts. Here the transposes are spelled out, see
`jax_elastic.layers.conv` for why.
"""

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]
"""Zeros (before, after) in height and in width; what is negative is cut off."""

_NHWC = ("NHWC", "HWIO", "NHWC")


def convolve(
    x: Array,
    kernel: Array,
    strides: Pair,
    pads: Pads,
    spread: Pair = (1, 1),
    kernel_spread: Pair = (1, 1),
) -> Array:
    """A convolution.

    Args:
      x: (B, H, W, C), floating.
      kernel: (k_h, k_w, C, O), dtype of `x`.
      strides: in height and width.
      pads: around `x`.
      spread: how far apart the pixels of `x` are put.
      kernel_spread: how far apart the taps of the kernel are put.

    Returns:
      (B, H', W', O), dtype of `x`.
    """
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        pads,
        lhs_dilation=spread,
        rhs_dilation=kernel_spread,
        dimension_numbers=_NHWC,
    )


def d_input(x: Array, kernel: Array, ct: Array, strides: Pair, pads: Pads) -> Array:
    """The gradient for the input: the cotangents put `strides` apart, under the mirrored kernel.

    Args:
      x: (B, H, W, C), the input; only its shape matters.
      kernel: (k_h, k_w, C, O).
      ct: (B, H', W', O), the output's cotangents.
      strides: of the convolution.
      pads: of the convolution.

    Returns:
      (B, H, W, C).
    """
    return convolve(
        ct, mirrored(kernel), (1, 1), d_input_pads(x, kernel, ct, strides, pads), strides
    )


def mirrored(kernel: Array) -> Array:
    """The kernel that leads back: (k_h, k_w, C, O) -> (k_h, k_w, O, C), turned by half a turn."""
    return jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)


def d_input_pads(x: Array, kernel: Array, ct: Array, strides: Pair, pads: Pads) -> Pads:
    """The zeros around the cotangents, for arguments as those of `d_input`."""
    # The last window may end before the map does, so the padding behind is what is left of
    # H + k - 1; it is negative where the forward padded more than k - 1.
    height, width = (
        (k - 1 - before, size + before - (out - 1) * stride - 1)
        for k, (before, _), size, out, stride in zip(
            kernel.shape[:2], pads, x.shape[1:3], ct.shape[1:3], strides, strict=True
        )
    )
    return height, width


def d_kernel(x: Array, kernel: Array, ct: Array, strides: Pair, pads: Pads) -> Array:
    """The gradient for the kernel: channels as the batch, the batch as channels, ct as kernel.

    Args:
      x: (B, H, W, C), the input.
      kernel: (k_h, k_w, C, O); only its shape matters.
      ct: (B, H', W', O), the output's cotangents.
      strides: of the convolution.
      pads: of the convolution.

    Returns:
      (k_h, k_w, C, O).
    """
    height, width = (
        (before, k - 1 - size - before + (out - 1) * stride + 1)
        for k, (before, _), size, out, stride in zip(
            kernel.shape[:2], pads, x.shape[1:3], ct.shape[1:3], strides, strict=True
        )
    )
    turned = convolve(
        jnp.transpose(x, (3, 1, 2, 0)),
        jnp.transpose(ct, (1, 2, 0, 3)),
        (1, 1),
        (height, width),
        kernel_spread=strides,
    )
    return jnp.transpose(turned, (1, 2, 0, 3))
