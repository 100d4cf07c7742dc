"""The convolution in three implementations of one function, and the layer.

XLA:CPU only canonicalises convolution layouts in the entry computation, so the gradients that
JAX derives (`native`) run 7-50 times slower inside scan, cond, switch and while bodies
(jax#12868). `canonical` writes both gradients as convolutions that are already NHWC x HWIO, with
the transposes spelled out; `blocked` cuts them into pieces that suit a CPU. Platforms other than
the CPU get JAX's own gradients, which their libraries know. The price is forward-mode
differentiation.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jax_elastic.errors import UsageError
from jax_elastic.layers import blocked, conv_gradients
from jax_elastic.layers.conv_gradients import Array, Pads, Pair

Convolution = Callable[..., Array]
_Convolve = Callable[[Array, Array, Pair, Pads], Array]
_Gradient = Callable[[Array, Array, Array, Pair, Pads], Array]


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
    return conv_gradients.convolve(x, kernel, (stride, stride), pads)


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
    return _canonical(x, kernel, (stride, stride), _padding(x.shape, kernel.shape, padding))


def blocked_conv(x: Array, kernel: Array, stride: int = 1, padding: int | None = None) -> Array:
    """`canonical_conv` in pieces that suit a CPU, see `jax_elastic.layers.blocked`.

    Args:
      x: (B, H, W, C), floating.
      kernel: (k_h, k_w, C, O), dtype of `x`.
      stride: in both directions.
      padding: zeros on each of the four sides; None means k // 2, as in PyTorch.

    Returns:
      (B, H', W', O), dtype of `x`; the same function as `native_conv`. Reverse mode only.
    """
    return _blocked(x, kernel, (stride, stride), _padding(x.shape, kernel.shape, padding))


CONVOLUTIONS: Mapping[str, Convolution] = MappingProxyType(
    {"blocked": blocked_conv, "canonical": canonical_conv, "native": native_conv}
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


def _padding(image: tuple[int, ...], kernel: tuple[int, ...], padding: int | None) -> Pads:
    """Zeros (before, after) per spatial axis; refuses a map that no window fits."""
    _, height, width, _ = image
    above, beside = (size // 2 if padding is None else padding for size in kernel[:2])
    if height + 2 * above < kernel[0] or width + 2 * beside < kernel[1]:
        raise UsageError(
            f"a {height}x{width} map padded by {above} and {beside} "
            f"is smaller than its {kernel[0]}x{kernel[1]} kernel",
            next_step="use a larger image, or fewer stages",
        )
    return (above, above), (beside, beside)


def _with_gradients(forward: _Convolve, d_input: _Gradient, d_kernel: _Gradient) -> _Convolve:
    """A convolution whose gradients are those given on CPU, and JAX's own elsewhere."""

    @functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
    def convolve(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
        return forward(x, kernel, strides, pads)

    def convolve_forward(
        x: Array, kernel: Array, strides: Pair, pads: Pads
    ) -> tuple[Array, tuple[Array, Array]]:
        return forward(x, kernel, strides, pads), (x, kernel)

    def backward(
        strides: Pair, pads: Pads, residuals: tuple[Array, Array], ct: Array
    ) -> tuple[Array, Array]:
        def explicit(x: Array, kernel: Array, ct: Array) -> tuple[Array, Array]:
            return d_input(x, kernel, ct, strides, pads), d_kernel(x, kernel, ct, strides, pads)

        def own(x: Array, kernel: Array, ct: Array) -> tuple[Array, Array]:
            _, vjp = jax.vjp(lambda x, k: conv_gradients.convolve(x, k, strides, pads), x, kernel)
            d_x, d_k = vjp(ct)
            return d_x, d_k

        # On GPU the explicit form would hide cuDNN's dgrad and wgrad patterns.
        d_x, d_k = lax.platform_dependent(*residuals, ct, cpu=explicit, default=own)
        return d_x, d_k

    convolve.defvjp(convolve_forward, backward)
    return convolve


def _blocked_forward(x: Array, kernel: Array, strides: Pair, pads: Pads) -> Array:
    def using(convolve: _Convolve) -> Callable[[Array, Array], Array]:
        return lambda x, kernel: convolve(x, kernel, strides, pads)

    return lax.platform_dependent(  # type: ignore[no-any-return]
        x, kernel, cpu=using(blocked.convolve), default=using(conv_gradients.convolve)
    )


_canonical = _with_gradients(
    conv_gradients.convolve, conv_gradients.d_input, conv_gradients.d_kernel
)
_blocked = _with_gradients(_blocked_forward, blocked.d_input, blocked.d_kernel)
