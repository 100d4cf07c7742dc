"""The depthwise convolution in two implementations of one function, and the layer.

Each channel has a kernel of its own, so there is no product to share among channels. `native` is
what is counted; XLA:CPU runs it slower than `shifted`, which moves the map under
each of the k * k taps and adds, and its gradients in a loop slower still (jax#12868). `auto`
takes what is best on the platform that the program is lowered for.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jax_elastic.errors import UsageError

Array = jax.Array
Depthwise = Callable[[Array, Array, int], Array]
"""(x, kernel, stride) -> output, as `depthwise_conv`."""


def depthwise_conv(x: Array, kernel: Array, impl: str = "auto", stride: int = 1) -> Array:
    """A convolution in which each channel sees itself alone.

    Args:
      x: (B, H, W, C), floating.
      kernel: (k_h, k_w, 1, C), odd sides, dtype of `x`.
      impl: a name in `DEPTHWISE`. They compute the same function.
      stride: in both directions.

    Returns:
      (B, ceil(H / stride), ceil(W / stride), C) with k // 2 zeros on all sides, dtype of `x`.
      `native` alone can be differentiated forward, and it alone is seen by the MAC counter:
      the others add and multiply element by element on a CPU.

    Raises:
      UsageError: `impl` is unknown, or the kernel is not one of odd sides for these channels.

    References:
      Howard et al. 2017 (MobileNet); https://github.com/jax-ml/jax/issues/12868
    """
    height, width, *channels = kernel.shape
    if channels != [1, x.shape[-1]] or not height % 2 or not width % 2:
        raise UsageError(
            f"a kernel of shape {kernel.shape} is no depthwise one of {x.shape[-1]} channels",
            f"odd sides and (1, {x.shape[-1]}) behind them",
        )
    if impl not in DEPTHWISE:
        raise UsageError(
            f"depthwise convolution {impl!r} is unknown",
            f"there are: {', '.join(sorted(DEPTHWISE))}",
            'for example impl="auto"',
        )
    return DEPTHWISE[impl](x, kernel, stride)


class DepthwiseConv(nn.Module):
    """A square depthwise convolution without bias, k // 2 zeros on both sides.

    Attributes:
      size: the kernel's side k, odd.
      stride: in both directions.
      impl: a name in `DEPTHWISE`. They compute the same function.

    Parameters:
      kernel: (k, k, 1, C) float32, normal with variance 2 / (k k C): He et al. 2015, fan-out,
        where as in PyTorch the outputs of all channels count. It is cast to the input's dtype
        where it is used.
    """

    size: int = 3
    stride: int = 1
    impl: str = "auto"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolves (B, H, W, C) to (B, ceil(H / stride), ceil(W / stride), C)."""
        shape = (self.size, self.size, 1, x.shape[-1])
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        kernel = jnp.asarray(self.param("kernel", init, shape, jnp.float32), x.dtype)
        return depthwise_conv(x, kernel, self.impl, self.stride)


def _native(x: Array, kernel: Array, stride: int) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(size // 2, size // 2) for size in kernel.shape[:2]],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _under_taps(x: Array, kernel: Array, stride: int) -> Iterator[Array]:
    """What each tap of the kernel sees, row by row: (B, H', W', C), at least float32.

    bfloat16 would round after every tap.
    """
    above, beside = (size // 2 for size in kernel.shape[:2])
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    padded = jnp.pad(wide, ((0, 0), (above, above), (beside, beside), (0, 0)))
    _, height, width, _ = x.shape
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            yield padded[:, i : i + height : stride, j : j + width : stride]


def _sum_of_taps(x: Array, kernel: Array, stride: int) -> Array:
    taps = kernel.reshape(-1, kernel.shape[-1])
    views = _under_taps(x, kernel, stride)
    total: Array = sum(seen * tap for seen, tap in zip(views, taps, strict=True))
    return total.astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shifted(x: Array, kernel: Array, stride: int) -> Array:
    return _sum_of_taps(x, kernel, stride)


def _shifted_forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _sum_of_taps(x, kernel, stride), (x, kernel)


def _shifted_backward(
    stride: int, residuals: tuple[Array, Array], ct: Array
) -> tuple[Array, Array]:
    # Left to JAX, the input's gradient would be a sum of k * k padded maps, which is slower.
    x, kernel = residuals
    d_x = _sum_of_taps(_spread(ct, x.shape, stride), jnp.flip(kernel, (0, 1)), 1)
    sums = [(seen * ct).sum((0, 1, 2)) for seen in _under_taps(x, kernel, stride)]
    return d_x, jnp.stack(sums).reshape(kernel.shape).astype(kernel.dtype)


def _spread(ct: Array, shape: tuple[int, ...], stride: int) -> Array:
    """Puts the pixels `stride` apart, on a map as large as the input's."""
    behind = [n - (m - 1) * stride - 1 for n, m in zip(shape[1:3], ct.shape[1:3], strict=True)]
    zero = jnp.zeros((), ct.dtype)
    none = (0, 0, 0)
    return lax.pad(ct, zero, [none, *((0, after, stride - 1) for after in behind), none])


_shifted.defvjp(_shifted_forward, _shifted_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _auto(x: Array, kernel: Array, stride: int) -> Array:
    def using(form: Depthwise) -> Callable[[Array, Array], Array]:
        return lambda x, kernel: form(x, kernel, stride)

    return lax.platform_dependent(  # type: ignore[no-any-return]
        x, kernel, cpu=using(_shifted), default=using(_native)
    )


def _auto_forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _auto(x, kernel, stride), (x, kernel)


def _auto_backward(stride: int, residuals: tuple[Array, Array], ct: Array) -> tuple[Array, Array]:
    # As in `grouped`: differentiated through, the choice would keep what each platform needs.
    def using(form: Depthwise) -> Callable[[Array, Array, Array], Any]:
        return lambda x, kernel, ct: jax.vjp(lambda x, k: form(x, k, stride), x, kernel)[1](ct)

    d_x, d_kernel = lax.platform_dependent(
        *residuals, ct, cpu=using(_shifted), default=using(_native)
    )
    return d_x, d_kernel


_auto.defvjp(_auto_forward, _auto_backward)

DEPTHWISE: Mapping[str, Depthwise] = MappingProxyType(
    {"auto": _auto, "native": _native, "shifted": _shifted}
)
