"""A traced operating point: every map in the upper left corner of a canvas of zeros.

The canvas is as large as the map at the largest scale, so the sizes of arrays do not depend on the
point, and one draw can be computed like another, one after the other or all at once. What a canvas
is larger by is computed in vain.

A convolution, an activation that keeps zero and a maximum of what is not negative need no change:
BN puts the zeros back that they read. So BN, average pooling and the head are all that is told the
size of the map; that is written for the backbones in `WRITTEN`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BasicBlock
from jax_elastic.backbones.mobilenet_v1 import MobileNetV1
from jax_elastic.backbones.mobilenet_v2 import MobileNetV2
from jax_elastic.backbones.resnet import Head, ResNet
from jax_elastic.elastic.family import Array, BNMode, Carry, PyTree, Variables
from jax_elastic.elastic.resizable.stretches import Option
from jax_elastic.layers.norm import BatchNorm
from jax_elastic.layers.resize import resize_within

WRITTEN = (ResNet, MobileNetV1, MobileNetV2)
"""Backbones that compute the same function on a canvas."""


def run(
    places: Sequence[Sequence[Option]],
    where: Sequence[int | Array],
    variables: Variables,
    images: Array,
    key: Array,
    bn: BNMode,
) -> tuple[Carry, tuple[PyTree, ...]]:
    """The training forward of a traced operating point; arguments and result as `switched.run`."""
    x, found = images, []
    size: tuple[int | Array, ...] = images.shape[1:3]
    for column, index in zip(places, where, strict=True):
        sides = [resizing.side for resizing, _ in column]
        resizing, code = column[0]
        canvas, side = max(sides), jnp.asarray(sides, jnp.int32)[index]
        x = resize_within(x.astype(resizing.dtype), size, (side, side), (canvas, canvas))
        if code.stretch.bank is not None:
            code = dataclasses.replace(code, stretch=dataclasses.replace(code.stretch, bank=index))
        on_canvas = OnCanvas(_halved(canvas, side))
        with nn.intercept_methods(on_canvas):
            carry, moments = code.train(code.stretch(variables), {"x": x}, key, bn)
        found.append(moments)
        if "x" in carry:
            x = carry["x"]
            size = (on_canvas.side(x),) * 2
    return carry, tuple(found)


def _halved(canvas: int, side: Array) -> dict[int, Array]:
    """The side of the map on each canvas that strides of 2 lead to; both round up."""
    found = {canvas: side}
    while canvas > 1:
        canvas, side = -(-canvas // 2), (side + 1) // 2
        found[canvas] = side
    return found


@dataclasses.dataclass(frozen=True)
class OnCanvas:
    """What differs on a canvas in the methods of Flax modules, see `flax.linen.intercept_methods`.

    Attributes:
      sides: side of a canvas -> int32 (), side of the map on it, in pixels.
    """

    sides: Mapping[int, Array]

    def side(self, x: Array) -> Array:
        """The side of the map on a canvas (B, H, H, C)."""
        return self.sides[x.shape[1]]

    def __call__(
        self,
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        """Calls a module's method as it is to be called on a canvas."""
        module, name = context.module, context.method_name
        if isinstance(module, BatchNorm) and name == "__call__":
            return method(*args, **kwargs, valid=self._valid(args[0]))
        if isinstance(module, BasicBlock) and name == "shortcut" and module.stride == 2:
            return method(*args, **kwargs) * self._missed(args[0])
        if isinstance(module, Head) and name == "__call__":
            x, *rest = args
            wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
            share = self.side(x).astype(wide.dtype) / x.shape[1]
            return method(wide / share**2, *rest, **kwargs)
        return method(*args, **kwargs)

    def _valid(self, x: Array) -> Array:
        """Where the map is: bool (H, H, 1)."""
        there = jnp.arange(x.shape[1]) < self.side(x)
        return (there[:, None] & there)[..., None]

    def _missed(self, x: Array) -> Array:
        """What a mean over 2x2 pixels of a canvas is too small by: (H', H', 1), 1 but at edges."""
        start = 2 * jnp.arange(-(-x.shape[1] // 2))
        of_canvas = jnp.minimum(x.shape[1] - start, 2)
        of_map = jnp.clip(self.side(x) - start, 1, 2)
        factor = (of_canvas / of_map).astype(x.dtype)
        return (factor[:, None] * factor)[..., None]
