"""The canonical convolution in pieces that suit a CPU; each computes the same function.

What XLA:CPU does well is a matrix product with many output channels whose operands lie in the
cache. So

- a convolution of few output channels computes two neighbouring columns at once, as one
  convolution of stride 2 with twice the channels. Its kernel is one tap wider, which costs a
  third more products for k = 3 and is still faster;
- the gradient for the kernel is a sum over groups of images, each of which fits the cache. A
  group takes images from all over the batch, so that a batch that is shared by several devices
  is not moved between them.

`python -m benchmarks.train_step --peer=torch` measures it.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jax_elastic.layers import conv_gradients
from jax_elastic.layers.conv_gradients import Array, Pads, Pair, d_input_pads, mirrored

FEW = 16  # output channels: up to here XLA:CPU leaves a convolution to its slower library
GROUP = 16  # images


def convolve(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    """As `conv_gradients.convolve`."""
    if not _in_columns(x.shape, kernel.shape, strides, pads):
        return conv_gradients.convolve(x, kernel, strides, pads)
    both = conv_gradients.convolve(x, _two_columns(kernel), (1, 2), pads)
    batch, height, width, channels = both.shape
    return both.reshape(batch, height, 2 * width, channels // 2)


def d_input(x: Array, kernel: Array, ct: Array, strides: Pair, pads: Pads) -> Array:
    """As `conv_gradients.d_input`."""
    if strides != (1, 1):
        return conv_gradients.d_input(x, kernel, ct, strides, pads)
    return convolve(ct, mirrored(kernel), strides, d_input_pads(x, kernel, ct, strides, pads))


def d_kernel(x: Array, kernel: Array, ct: Array, strides: Pair, pads: Pads) -> Array:
    """As `conv_gradients.d_kernel`."""
    batch = len(x)
    if batch <= GROUP or batch % GROUP:
        return _d_kernel_of_group(x, kernel, ct, strides, pads)
    xs, cts = (a.reshape(GROUP, batch // GROUP, *a.shape[1:]) for a in (x, ct))

    def add(i: Array, total: Array) -> Array:
        group, group_ct = (lax.dynamic_index_in_dim(a, i, 1, keepdims=False) for a in (xs, cts))
        found = _d_kernel_of_group(group, kernel, group_ct, strides, pads)
        return total + found.astype(total.dtype)

    zero = jnp.zeros(kernel.shape, jnp.promote_types(ct.dtype, jnp.float32))
    total = lax.fori_loop(0, batch // GROUP, add, zero)
    return total.astype(ct.dtype)  # type: ignore[no-any-return]


def _d_kernel_of_group(x: Array, kernel: Array, ct: Array, strides: Pair, pads: Pads) -> Array:
    if not _in_columns(x.shape, kernel.shape, strides, pads):
        return conv_gradients.d_kernel(x, kernel, ct, strides, pads)
    batch, height, width, channels = ct.shape
    both = ct.reshape(batch, height, width // 2, 2 * channels)
    wide = jax.eval_shape(_two_columns, kernel)
    found = conv_gradients.d_kernel(x, wide, both, (1, 2), pads)
    return jax.linear_transpose(_two_columns, kernel)(found)[0]  # type: ignore[no-any-return]


def _two_columns(kernel: Array) -> Array:
    """(k_h, k_w, C, O) -> (k_h, k_w + 1, C, 2 O): the kernels of a column and of the next."""
    left = jnp.pad(kernel, ((0, 0), (0, 1), (0, 0), (0, 0)))
    right = jnp.pad(kernel, ((0, 0), (1, 0), (0, 0), (0, 0)))
    return jnp.concatenate([left, right], 3)


def _in_columns(image: tuple[int, ...], kernel: tuple[int, ...], strides: Pair, pads: Pads) -> bool:
    """Whether the output has few channels, stride 1 and an even number of columns."""
    columns = image[2] + sum(pads[1]) - kernel[1] + 1
    few = kernel[3] <= FEW and kernel[1] > 1  # of 1 tap, the kernel would become twice as wide
    return few and strides == (1, 1) and columns % 2 == 0
