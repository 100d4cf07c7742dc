"""The canonical convolution: one whose gradients stay fast inside loops on CPU.

XLA:CPU only canonicalises convolution layouts in the entry computation, so the gradients that
JAX derives run 7-50 times slower inside scan, cond, switch and while bodies (jax#12868). The
canonical form writes both gradients as convolutions that are already NHWC x HWIO, with the
transposes spelled out. Other platforms get JAX's own gradients, which their libraries know.
The price is forward-mode differentiation.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jax_elastic.errors import UsageError

Array = jax.Array
Convolution = Callable[..., Array]

_NHWC = ("NHWC", "HWIO", "NHWC")


def native_conv(x: Array, kernel: Array, stride: int = 1, padding: int | None = None) -> Array:
    """A convolution with JAX's own gradients.

    Args:
      x: (B, H, W, C), floating.
      kernel: (k_h, k_w, C, O), dtype of `x`.
      stride: in both directions.
      padding: zeros on each of the four sides; None means k // 2, as in PyTorch. (SAME would
        shift the windows of stride 2.)

    Returns:
      (B, H', W', O) with H' = (H + 2 padding - k_h) // stride + 1, dtype of `x`.
    """
    pads = _padding(x.shape, kernel.shape, padding)
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=_NHWC)


def canonical_conv(x: Array, kernel: Array, stride: int = 1, padding: int | None = None) -> Array:
    """`native_conv` with gradients that are as fast inside a loop as outside on CPU.

    Args:
      x: (B, H, W, C), floating.
      kernel: (k_h, k_w, C, O), dtype of `x`.
      stride: in both directions.
      padding: zeros on each of the four sides; None means k // 2, as in PyTorch.

    Returns:
      (B, H', W', O), dtype of `x`; the same function as `native_conv`. Reverse mode only.

    References:
      https://github.com/jax-ml/jax/issues/12868
    """
    return _canonical(x, kernel, stride, padding)


CONVOLUTIONS: Mapping[str, Convolution] = MappingProxyType(
    {"canonical": canonical_conv, "native": native_conv}
)


class Conv(nn.Module):
    """A square convolution without bias, k // 2 zeros on both sides.

    Attributes:
      features: output channels O.
      size: the kernel's side k.
      stride: in both directions.
      impl: a name in `CONVOLUTIONS`. They compute the same function.

    Parameters:
      kernel: (k, k, C, O) float32, normal with variance 2 / (k k O) (He et al. 2015, fan-out).
        It is cast to the input's dtype where it is used.
    """

    features: int
    size: int = 3
    stride: int = 1
    impl: str = "canonical"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolves (B, H, W, C) to (B, ceil(H / stride), ceil(W / stride), O), odd k."""
        if self.impl not in CONVOLUTIONS:
            raise UsageError(
                f"convolution {self.impl!r} is unknown",
                f"there are: {', '.join(sorted(CONVOLUTIONS))}",
                'for example impl="canonical"',
            )
        shape = (self.size, self.size, x.shape[-1], self.features)
        # Untruncated: PyTorch's kaiming_normal_, which the published recipes start from.
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        kernel = self.param("kernel", init, shape, jnp.float32)
        return CONVOLUTIONS[self.impl](x, jnp.asarray(kernel, x.dtype), self.stride)


def _padding(
    image: tuple[int, ...], kernel: tuple[int, ...], padding: int | None
) -> list[tuple[int, int]]:
    """Zeros (before, after) per spatial axis; refuses a map that no window fits."""
    _, height, width, _ = image
    pads = [size // 2 if padding is None else padding for size in kernel[:2]]
    if height + 2 * pads[0] < kernel[0] or width + 2 * pads[1] < kernel[1]:
        raise UsageError(
            f"a {height}x{width} map padded by {pads[0]} and {pads[1]} "
            f"is smaller than its {kernel[0]}x{kernel[1]} kernel",
            next_step="use a larger image, or fewer stages",
        )
    return [(pad, pad) for pad in pads]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _canonical(x: Array, kernel: Array, stride: int, padding: int | None) -> Array:
    return native_conv(x, kernel, stride, padding)


def _canonical_forward(
    x: Array, kernel: Array, stride: int, padding: int | None
) -> tuple[Array, tuple[Array, Array]]:
    return native_conv(x, kernel, stride, padding), (x, kernel)


def _canonical_backward(
    stride: int, padding: int | None, residuals: tuple[Array, Array], ct: Array
) -> tuple[Array, Array]:
    x, kernel = residuals

    def explicit(x: Array, kernel: Array, ct: Array) -> tuple[Array, Array]:
        pads = _padding(x.shape, kernel.shape, padding)
        return _d_input(x, kernel, ct, stride, pads), _d_kernel(x, kernel, ct, stride, pads)

    def own(x: Array, kernel: Array, ct: Array) -> tuple[Array, Array]:
        _, vjp = jax.vjp(lambda x, kernel: native_conv(x, kernel, stride, padding), x, kernel)
        d_x, d_kernel = vjp(ct)
        return d_x, d_kernel

    # On GPU the explicit form would hide cuDNN's dgrad and wgrad patterns.
    d_x, d_kernel = lax.platform_dependent(x, kernel, ct, cpu=explicit, default=own)
    return d_x, d_kernel


_canonical.defvjp(_canonical_forward, _canonical_backward)


def _d_input(x: Array, kernel: Array, ct: Array, stride: int, pads: list[tuple[int, int]]) -> Array:
    """(B, H, W, C): the cotangents spread `stride` apart, under the mirrored kernel."""
    # The last window may end before the map does, so the padding behind is what is left of
    # H + k - 1; it is negative where the forward padded more than k - 1.
    spread = [
        (k - 1 - before, size + before - (out - 1) * stride - 1)
        for k, (before, _), size, out in zip(
            kernel.shape[:2], pads, x.shape[1:3], ct.shape[1:3], strict=True
        )
    ]
    mirrored = jnp.swapaxes(jnp.flip(kernel, (0, 1)), 2, 3)
    return lax.conv_general_dilated(
        ct, mirrored, (1, 1), spread, lhs_dilation=(stride, stride), dimension_numbers=_NHWC
    )


def _d_kernel(
    x: Array, kernel: Array, ct: Array, stride: int, pads: list[tuple[int, int]]
) -> Array:
    """(k_h, k_w, C, O): channels as the batch, the batch as channels, ct as the kernel."""
    window = [
        (before, k - 1 - size - before + (out - 1) * stride + 1)
        for k, (before, _), size, out in zip(
            kernel.shape[:2], pads, x.shape[1:3], ct.shape[1:3], strict=True
        )
    ]
    d_kernel = lax.conv_general_dilated(
        jnp.transpose(x, (3, 1, 2, 0)),
        jnp.transpose(ct, (1, 2, 0, 3)),
        (1, 1),
        window,
        rhs_dilation=(stride, stride),
        dimension_numbers=_NHWC,
    )
    return jnp.transpose(d_kernel, (1, 2, 0, 3))
