"""Units of ShuffleNetV2: one half of the channels passes, the other is computed (Ma et al. 2018).

Names of a unit's variables, which are public. `left` is there only in the first unit of a stage.

    left/{depthwise, bn1, pointwise, bn2}
    right/{conv, bn, separable/{depthwise, bn1, pointwise, bn2}}
    right/{separable1, separable2, separable3}       of the kind X, instead
    squeeze/{reduce, bn, expand}                     where the unit has one
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.layers.depthwise import DepthwiseConv
from jax_elastic.layers.norm import BatchNorm
from jax_elastic.layers.pointwise import Pointwise
from jax_elastic.layers.squeeze import SqueezeExcite

Array = jax.Array
Activation = Callable[[Array], Array]

KERNELS: Mapping[str, int] = MappingProxyType({"3": 3, "5": 5, "7": 7, "X": 3})
"""Side of the depthwise kernels by kind of unit."""


def shuffle(x: Array) -> Array:
    """Interleaves the two halves of the channels: (..., C) -> (..., C), C even.

    Channels a b c d come out as a c b d, so that each half of the result has some of either.
    """
    halves = x.reshape(*x.shape[:-1], 2, x.shape[-1] // 2)
    return jnp.swapaxes(halves, -1, -2).reshape(x.shape)


class Separable(nn.Module):
    """depthwise-BN-1x1-BN-activation: (B, H, W, C) -> (B, H / stride, W / stride, features).

    Attributes:
      features: output channels.
      size: the depthwise kernel's side.
      stride: 1 or 2.
      activation: element-wise.
      depthwise: implementation, see `jax_elastic.layers.depthwise`.
    """

    features: int
    size: int = 3
    stride: int = 1
    activation: Activation = nn.relu
    depthwise: str = "auto"

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Array:
        """Each channel by itself, then each pixel by itself."""
        x = DepthwiseConv(self.size, self.stride, self.depthwise, name="depthwise")(x)
        x = BatchNorm(name="bn1")(x, bn)
        x = BatchNorm(name="bn2")(Pointwise(self.features, name="pointwise")(x), bn)
        return self.activation(x)


class Right(nn.Module):
    """The branch that is computed: 1x1-BN-activation and a separable convolution, or three of them.

    Attributes:
      features: output channels.
      middle: channels between its layers.
      kind: `3`, `5`, `7`: the side of its one depthwise kernel. `X`: three separable 3x3.
      stride: 1 or 2.
      activation: element-wise.
      depthwise: implementation, see `jax_elastic.layers.depthwise`.
    """

    features: int
    middle: int
    kind: str = "3"
    stride: int = 1
    activation: Activation = nn.relu
    depthwise: str = "auto"

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Array:
        """(B, H, W, C) -> (B, H / stride, W / stride, features)."""
        make = partial(
            Separable,
            size=KERNELS[self.kind],
            activation=self.activation,
            depthwise=self.depthwise,
        )
        if self.kind == "X":
            x = make(self.middle, stride=self.stride, name="separable1")(x, bn)
            x = make(self.middle, name="separable2")(x, bn)
            return make(self.features, name="separable3")(x, bn)
        x = BatchNorm(name="bn")(Pointwise(self.middle, name="conv")(x), bn)
        separable = make(self.features, stride=self.stride, name="separable")
        return separable(self.activation(x), bn)


class ShuffleUnit(nn.Module):
    """shuffle([left, right]): (B, H, W, C) -> (B, H / stride, W / stride, features).

    The first unit of a stage computes both branches from all of x, the left one as a separable
    convolution. In the others C = `features`, the left branch is the first half of x as it is, and
    the right one is computed from the second half.

    Attributes:
      features: output channels, even.
      stride: 1 or 2.
      first: whether it is the first unit of its stage.
      kind: of the right branch, see `Right`; the left one has kernels of the same side.
      halves: whether both branches of a first unit give half of the channels. Otherwise the left
        one keeps its C, and the right one gives those that are missing.
      squeeze: whether the right branch's channels are weighted, see `jax_elastic.layers.squeeze`.
      activation: element-wise.
      depthwise: implementation, see `jax_elastic.layers.depthwise`.
    """

    features: int
    stride: int = 1
    first: bool = False
    kind: str = "3"
    halves: bool = False
    squeeze: bool = False
    activation: Activation = nn.relu
    depthwise: str = "auto"

    @nn.compact
    def __call__(self, x: Array, per_block: None, bn: BNMode) -> tuple[Array, None]:
        """The unit; gives nothing to stack."""
        del per_block
        half, size = self.features // 2, KERNELS[self.kind]
        how = (self.stride, self.activation, self.depthwise)
        if self.first:
            kept = half if self.halves else x.shape[-1]
            left = Separable(kept, size, *how, name="left")(x, bn)
        else:
            left, x = jnp.split(x, 2, -1)
        right = Right(self.features - left.shape[-1], half, self.kind, *how, name="right")(x, bn)
        if self.squeeze:
            right = SqueezeExcite(name="squeeze")(right, bn)
        return shuffle(jnp.concatenate([left, right], -1)), None
