"""The grouped convolution in four implementations of one function, and the layer.

A grouped convolution is the dense one whose kernel is block-diagonal. `native` leaves the zeros
out; it is what is counted, but neither XLA:CPU nor cuDNN has a good gradient of it (jax#13800).
`dense` multiplies by the zeros too. `split` is between: one dense convolution for a few groups,
then one for the next. `auto` takes what is best on the platform that the program is lowered for,
on a CPU `split`, whose forward is one product where it has few channels (`narrow`);
`python -m benchmarks.grouped_conv` measures it.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jax_elastic.errors import UsageError
from jax_elastic.layers.conv import canonical_conv
from jax_elastic.layers.narrow import narrow_conv

Array = jax.Array
Grouped = Callable[[Array, Array, int, int], Array]
"""(x, kernel, groups, stride) -> output, as `grouped_conv`."""

FEW_IMAGES = 16  # fewer than so many
WIDTH, WIDTH_FOR_FEW_IMAGES = 16, 32  # channels of one convolution of `split`
NARROW = 16  # channels: with fewer, a forward on a CPU is quicker as a product
DENSE = 256  # channels: up to here an accelerator's matrix unit does not mind the zeros


def grouped_conv(
    x: Array, kernel: Array, groups: int, impl: str = "auto", stride: int = 1
) -> Array:
    """A convolution in which each group of outputs sees its own group of inputs.

    The first groups alone are ``grouped_conv(x[..., : n * b], kernel[..., : n * o], n)``.

    Args:
      x: (B, H, W, groups * b), floating.
      kernel: (k_h, k_w, b, groups * o), dtype of `x`; the outputs of a group lie side by side.
      groups: how many; static.
      impl: a name in `GROUPED`. They compute the same function.
      stride: in both directions.

    Returns:
      (B, H', W', groups * o) with k // 2 zeros on all sides, dtype of `x`. `native` alone can
      be differentiated forward; the MACs of `auto` are those of JAX's default platform.

    Raises:
      UsageError: `impl` is unknown, or the channels are not those of so many groups.

    References:
      Xie et al. 2017 (ResNeXt); https://github.com/jax-ml/jax/issues/13800
    """
    _check(x.shape[-1], kernel.shape[-1], groups, impl)
    if kernel.shape[2] * groups != x.shape[-1]:
        raise UsageError(
            f"a kernel of {kernel.shape[2]} channels a group does not fit {x.shape[-1]} channels "
            f"in {groups} groups",
            f"its shape must be {(*kernel.shape[:2], x.shape[-1] // groups, kernel.shape[3])}",
        )
    return GROUPED[impl](x, kernel, groups, stride)


class GroupedConv(nn.Module):
    """A square grouped convolution without bias, k // 2 zeros on both sides.

    Attributes:
      groups: how many; both the input's channels and `features` are a multiple of it.
      features: output channels O of all groups together.
      size: the kernel's side k.
      stride: in both directions.
      impl: a name in `GROUPED`. They compute the same function.

    Parameters:
      kernel: (k, k, C / groups, O) float32, normal with variance 2 / (k k O): He et al. 2015,
        fan-out, where as in PyTorch the outputs of all groups count. It is cast to the input's
        dtype where it is used.
    """

    groups: int
    features: int
    size: int = 3
    stride: int = 1
    impl: str = "auto"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Convolves (B, H, W, C) to (B, ceil(H / stride), ceil(W / stride), O), odd k."""
        _check(x.shape[-1], self.features, self.groups, self.impl)
        shape = (self.size, self.size, x.shape[-1] // self.groups, self.features)
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        kernel = jnp.asarray(self.param("kernel", init, shape, jnp.float32), x.dtype)
        return grouped_conv(x, kernel, self.groups, self.impl, self.stride)


def _check(channels: int, features: int, groups: int, impl: str) -> None:
    """Refuses an unknown implementation, and channels that do not come in so many groups."""
    if impl not in GROUPED:
        raise UsageError(
            f"grouped convolution {impl!r} is unknown",
            f"there are: {', '.join(sorted(GROUPED))}",
            'for example impl="auto"',
        )
    if groups < 1:
        raise UsageError(f"{groups} groups are asked for", "at least 1")
    for side, count in (("input", channels), ("output", features)):
        if count % groups:
            raise UsageError(
                f"{count} {side} channels cannot be shared by {groups} groups",
                f"a multiple of {groups}, for example {-(-count // groups) * groups}",
            )


def _native(x: Array, kernel: Array, groups: int, stride: int) -> Array:
    pads = [(size // 2, size // 2) for size in kernel.shape[:2]]
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _dense(x: Array, kernel: Array, groups: int, stride: int) -> Array:
    return canonical_conv(x, _block_diagonal(kernel, groups), stride)


def split_conv(
    x: Array,
    kernel: Array,
    groups: int,
    stride: int = 1,
    width: int | None = None,
    conv: Callable[[Array, Array, int], Array] = canonical_conv,
) -> Array:
    """One block-diagonal convolution for the first few groups, one for the next, and so on.

    Args:
      x: as `grouped_conv`.
      kernel: as `grouped_conv`.
      groups: as `grouped_conv`.
      stride: as `grouped_conv`.
      width: how many channels, in and out, one convolution has at most, unless a single group
        has more. The last one has those that are left. None means what was fastest on a CPU:
        16, and 32 for fewer than 16 images.
      conv: the dense one, of (x, kernel, stride).

    Returns:
      As `grouped_conv`.
    """
    if width is None:
        width = WIDTH_FOR_FEW_IMAGES if len(x) < FEW_IMAGES else WIDTH
    ins, outs = kernel.shape[2], kernel.shape[3] // groups
    at_once = max(1, width // max(ins, outs))
    sizes = [min(at_once, groups - first) for first in range(0, groups, at_once)]
    xs = lax.split(x, [n * ins for n in sizes], axis=3)
    kernels = lax.split(kernel, [n * outs for n in sizes], axis=3)
    runs = zip(xs, kernels, sizes, strict=True)
    parts = [conv(x, _block_diagonal(kernel, n), stride) for x, kernel, n in runs]
    return jnp.concatenate(parts, 3)


def _block_diagonal(kernel: Array, groups: int) -> Array:
    """(k_h, k_w, b, groups * o) -> (k_h, k_w, groups * b, groups * o), zero between groups."""
    height, width, ins, outs = kernel.shape
    blocks = kernel.reshape(height, width, 1, ins, groups, outs // groups)
    own = jnp.eye(groups, dtype=bool)[:, None, :, None]
    return jnp.where(own, blocks, 0).reshape(height, width, groups * ins, outs)


def _forward(x: Array, kernel: Array, stride: int) -> Array:
    """What is quickest on a CPU; its gradient is that of `split_conv`, see `_auto_backward`."""
    return (narrow_conv if x.shape[-1] < NARROW else canonical_conv)(x, kernel, stride)


def _on_accelerators(channels: int) -> Grouped:
    return _dense if channels <= DENSE else _native


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _auto(x: Array, kernel: Array, groups: int, stride: int) -> Array:
    def using(form: Grouped) -> Callable[[Array, Array], Array]:
        return lambda x, kernel: form(x, kernel, groups, stride)

    return lax.platform_dependent(  # type: ignore[no-any-return]
        x,
        kernel,
        cpu=using(functools.partial(split_conv, conv=_forward)),
        default=using(_on_accelerators(x.shape[-1])),
    )


def _auto_forward(
    x: Array, kernel: Array, groups: int, stride: int
) -> tuple[Array, tuple[Array, Array]]:
    return _auto(x, kernel, groups, stride), (x, kernel)


def _auto_backward(
    groups: int, stride: int, residuals: tuple[Array, Array], ct: Array
) -> tuple[Array, Array]:
    # The choice is made here once more: differentiated through, it would keep what each of the
    # platforms needs, and a scan would stack that.
    def using(form: Grouped) -> Callable[[Array, Array, Array], Any]:
        return lambda x, kernel, ct: jax.vjp(
            lambda x, kernel: form(x, kernel, groups, stride), x, kernel
        )[1](ct)

    x, kernel = residuals
    d_x, d_kernel = lax.platform_dependent(
        x, kernel, ct, cpu=using(split_conv), default=using(_on_accelerators(x.shape[-1]))
    )
    return d_x, d_kernel


_auto.defvjp(_auto_forward, _auto_backward)

GROUPED: Mapping[str, Grouped] = MappingProxyType(
    {"auto": _auto, "dense": _dense, "native": _native, "split": split_conv}
)
