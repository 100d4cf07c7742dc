"""Bilinear resizing of maps in two implementations of one function.

Along an axis it is a product with a matrix that has at most two weights a row. `gather` reads
the pixels that have a weight and mixes them: nothing is counted, so it is the reference form.
`matmul` multiplies by the zeros, too. The gradient is the same with the transposed matrix;
JAX's own of a gather scatters, which is slow. `auto` is `gather` on a CPU, where the product
multiplies mostly zeros, and `matmul` elsewhere, where a product is cheap.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_elastic.errors import UsageError

Array = jax.Array
_Mix = Callable[[Array, np.ndarray, int], Array]
"""(x, matrix (new, old), axis) -> x with `new` pixels, mixed of `old` ones, along one axis."""


def resize(x: Array, size: tuple[int, int], impl: str = "auto") -> Array:
    """Resizes maps: bilinear, half-pixel centres, edges repeated, no antialiasing.

    Args:
      x: (B, H, W, C), floating.
      size: (h, w) in pixels, larger or smaller than (H, W).
      impl: a name in `RESIZES`. They compute the same function of finite numbers; `matmul`
        spreads what overflowed over its row and column.

    Returns:
      (B, h, w, C), dtype of `x`; mixed in at least float32 and rounded once. `x` itself where it
      has that size. It equals ``jax.image.resize(..., "bilinear", antialias=False)``, but can only
      be differentiated in reverse. The MACs of `auto` are those of JAX's default platform.

    Raises:
      UsageError: `impl` is unknown, or a side is smaller than a pixel.
    """
    if impl not in RESIZES:
        raise UsageError(
            f"resize {impl!r} is unknown",
            f"there are: {', '.join(sorted(RESIZES))}",
            'for example impl="auto"',
        )
    if min(size) < 1:
        raise UsageError(f"a map cannot be resized to {size[0]}x{size[1]}", "sides of at least 1")
    if x.shape[1:3] == tuple(size):
        return x
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis, side in zip((1, 2), size, strict=True):
        if wide.shape[axis] != side:
            wide = _along(wide, axis, wide.shape[axis], side, impl)
    return wide.astype(x.dtype)


def resize_within(
    x: Array, old: Sequence[int | Array], new: Sequence[int | Array], canvas: tuple[int, int]
) -> Array:
    """`resize` between sizes that may be traced: a product with matrices computed from them.

    Args:
      x: (B, H, W, C), floating and finite; the map is its upper left corner.
      old: (h, w), that map's size in pixels, int or int32 ().
      new: (h', w'), what it is resized to.
      canvas: (H', W'), at least as large.

    Returns:
      (B, H', W', C), dtype of `x`: the resized map in the upper left corner of zeros. What is
      outside of the old one has no weight.
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis, before, after, side in zip((1, 2), old, new, canvas, strict=True):
        wide = _matmul(wide, _bilinear(before, after, (side, wide.shape[axis]), wide.dtype), axis)
    return wide.astype(x.dtype)


def scaled(side: int, scale: float) -> int:
    """The side of a map under a scale: floor(scale * side), in pixels.

    Args:
      side: the standard one.
      scale: a positive factor.

    Raises:
      UsageError: less than one pixel is left, or the scale is no number.
    """
    exact = scale * side + 1e-9  # .57 x 100 is 57, whatever floats say
    if not 1 <= exact < math.inf:
        raise UsageError(
            f"scale {scale} leaves no map of one that is {side} pixels wide",
            f"a finite scale of at least 1/{side}",
            "use a larger scale or a larger image",
        )
    return math.floor(exact)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _along(x: Array, axis: int, old: int, new: int, impl: str) -> Array:
    return RESIZES[impl](x, _bilinear(old, new), axis)


def _along_forward(x: Array, axis: int, old: int, new: int, impl: str) -> tuple[Array, None]:
    return _along(x, axis, old, new, impl), None


def _along_backward(
    axis: int, old: int, new: int, impl: str, residuals: None, ct: Array
) -> tuple[Array]:
    del residuals
    return (RESIZES[impl](ct, _bilinear(old, new).T, axis),)


_along.defvjp(_along_forward, _along_backward)


def _bilinear(
    old: Any, new: Any, shape: tuple[int, int] | None = None, dtype: Any = np.float64
) -> Any:
    """The weight of each old pixel in each new one: (new, old), rows add up to 1.

    Of sizes that are traced it is the upper left corner of zeros of a static `shape`.
    """
    rows, columns = shape or (old, new)[::-1]
    row, column = np.arange(rows)[:, None], np.arange(columns)
    # In integers, 1 / (2 new) of a pixel: one rounding, so that a centre on an old pixel reads
    # that one alone.
    centre = ((2 * row + 1) * old - new).clip(0, 2 * new * (old - 1))
    overlap = (2 * new - abs(centre - 2 * new * column)).clip(0)
    return (overlap * (row < new)).astype(dtype) / (2 * new)


def _gather(x: Array, matrix: np.ndarray, axis: int) -> Array:
    most = int((matrix != 0).sum(1).max())
    places = np.argsort(matrix == 0, 1, kind="stable")[:, :most]
    weights = np.take_along_axis(matrix, places, 1)
    # A row with fewer weights reads its first pixel again: another's could be infinite.
    places = np.where(weights == 0, places[:, :1], places)
    shape = [len(matrix) if a == axis else 1 for a in range(x.ndim)]
    mixed = (
        jnp.take(x, place, axis, mode="clip") * jnp.asarray(weight.reshape(shape), x.dtype)
        for place, weight in zip(places.T, weights.T, strict=True)
    )
    return functools.reduce(jnp.add, mixed)


def _matmul(x: Array, matrix: np.ndarray | Array, axis: int) -> Array:
    lead, rest = x.shape[:axis], x.shape[axis + 1 :]
    flat = x.reshape(math.prod(lead), x.shape[axis], math.prod(rest))
    # One product per image (or row): contracting at once would transpose the map.
    many = jnp.broadcast_to(jnp.asarray(matrix, x.dtype), (len(flat), *matrix.shape))
    # Or accelerators would round to fewer bits first.
    mixed = jnp.matmul(many, flat, precision=lax.Precision.HIGHEST)
    return mixed.reshape(*lead, len(matrix), *rest)


def _auto(x: Array, matrix: np.ndarray, axis: int) -> Array:
    def using(mix: _Mix) -> Callable[[Array], Array]:
        return lambda x: mix(x, matrix, axis)

    mixed: Array = lax.platform_dependent(x, cpu=using(_gather), default=using(_matmul))
    return mixed


RESIZES: Mapping[str, _Mix] = MappingProxyType(
    {"auto": _auto, "gather": _gather, "matmul": _matmul}
)
