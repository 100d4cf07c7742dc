"""Residual blocks: ReLU(shortcut(x) + F(x)) (He et al. 2016; docs/choices.md B2, B3, B4)."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import flax.linen as nn
import jax

from jax_elastic.layers.conv import Conv
from jax_elastic.layers.downsample import average_pool_2x2, pad_channels
from jax_elastic.layers.norm import BatchNorm

Array = jax.Array
PyTree = Any
BNMode = Literal["batch", "running"]
BlockKind = Literal["basic", "bottleneck"]
EXPANSION = 4  # output channels of a bottleneck per channel of its width


class ResidualBlock(Protocol):
    """What every kind of block gives: ReLU(shortcut(x) + F(x)), and the two parts."""

    def residual(self, x: Array, bn: BNMode) -> Array:
        """F(x), before it is added."""
        ...

    def shortcut(self, x: Array, bn: BNMode) -> Array:
        """What F is added to."""
        ...

    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, PyTree]:
        """The block; the second result is stacked over blocks by the network."""
        ...


class BasicBlock(nn.Module):
    """F = conv3x3-BN-ReLU-conv3x3-BN: (B, H, W, C) -> (B, H / stride, W / stride, features).

    The shortcut (type A) has no parameters: identity, or 2x2 average pool and zero channels.

    Attributes:
      features: width.
      stride: 1 or 2.
      first: whether it is the first block of its stage.
      conv: implementation of the convolutions, see `jax_elastic.layers.conv`.
    """

    features: int
    stride: int = 1
    first: bool = False
    conv: str = "canonical"

    def setup(self) -> None:
        """The block's layers."""
        self.conv1 = Conv(self.features, 3, self.stride, self.conv)
        self.bn1 = BatchNorm()
        self.conv2 = Conv(self.features, 3, 1, self.conv)
        self.bn2 = BatchNorm()

    def residual(self, x: Array, bn: BNMode) -> Array:
        """F(x), before it is added."""
        x = nn.relu(self.bn1(self.conv1(x), bn))
        return self.bn2(self.conv2(x), bn)

    def shortcut(self, x: Array, bn: BNMode) -> Array:
        """What F is added to; it has no statistics, so `bn` changes nothing."""
        del bn
        if self.stride == 2:
            x = average_pool_2x2(x)
        return pad_channels(x, self.features)

    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, None]:
        """ReLU(shortcut(x) + F(x)); gives nothing to stack."""
        del per_block
        return nn.relu(self.shortcut(x, bn) + self.residual(x, bn)), None


class Bottleneck(nn.Module):
    """F = conv1x1-BN-ReLU-conv3x3-BN-ReLU-conv1x1-BN, the stride on the 3x3.

    (B, H, W, C) -> (B, H / stride, W / stride, 4 features), sizes rounded up.

    The shortcut (type B) is the identity, or conv1x1-BN in the first block of a stage.

    Attributes:
      features: width.
      stride: 1 or 2.
      first: whether it is the first block of its stage.
      conv: implementation of the convolutions, see `jax_elastic.layers.conv`.
    """

    features: int
    stride: int = 1
    first: bool = False
    conv: str = "canonical"

    def setup(self) -> None:
        """The block's layers."""
        self.conv1 = Conv(self.features, 1, 1, self.conv)
        self.bn1 = BatchNorm()
        self.conv2 = Conv(self.features, 3, self.stride, self.conv)
        self.bn2 = BatchNorm()
        self.conv3 = Conv(EXPANSION * self.features, 1, 1, self.conv)
        self.bn3 = BatchNorm()
        if self.first:
            self.projection = Conv(EXPANSION * self.features, 1, self.stride, self.conv)
            self.bn_projection = BatchNorm()

    def residual(self, x: Array, bn: BNMode) -> Array:
        """F(x), before it is added."""
        x = nn.relu(self.bn1(self.conv1(x), bn))
        x = nn.relu(self.bn2(self.conv2(x), bn))
        return self.bn3(self.conv3(x), bn)

    def shortcut(self, x: Array, bn: BNMode) -> Array:
        """What F is added to."""
        return self.bn_projection(self.projection(x), bn) if self.first else x

    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, None]:
        """ReLU(shortcut(x) + F(x)); gives nothing to stack."""
        del per_block
        return nn.relu(self.shortcut(x, bn) + self.residual(x, bn)), None


BLOCKS: dict[BlockKind, Callable[..., ResidualBlock]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
}
"""The plain blocks by kind."""
