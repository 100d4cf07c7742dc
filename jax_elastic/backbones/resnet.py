"""CIFAR ResNet(6n+2) with parameter-free shortcuts (He et al. 2016; SPEC section 1).

The equal blocks of a stage are stacked (leading axis = block) and run in one `lax.scan`, so
compile time does not grow with depth. Names of the parameter tree, which are public:

    stem/{conv, bn}
    stage1/{first, blocks}/{conv1, bn1, conv2, bn2}     `first` changes shape, `blocks` is stacked
    head/classifier
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.errors import UsageError
from jax_elastic.layers.conv import Conv
from jax_elastic.layers.downsample import average_pool_2x2, pad_channels
from jax_elastic.layers.norm import BatchNorm

Array = jax.Array
PyTree = Any
BlockT = TypeVar("BlockT")
BNMode = Literal["batch", "running"]


@dataclasses.dataclass(frozen=True)
class BlockSite:
    """Where a residual block stands in a network.

    Attributes:
      path: its place in the variables, e.g. ``("stage2", "blocks")``.
      index: its place in the stack, or None where it is not stacked.
      stage: counted from 0.
      features: output channels.
      stride: 1 or 2.
    """

    path: tuple[str, ...]
    index: int | None
    stage: int
    features: int
    stride: int


class BasicBlock(nn.Module):
    """ReLU(shortcut(x) + F(x)), F = conv3x3-BN-ReLU-conv3x3-BN; (B, H, W, C) -> (B, H', W', C').

    The shortcut (type A) has no parameters: identity, or 2x2 average pool and zero channels.
    """

    features: int
    stride: int = 1
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
        """What F is added to; `bn` is for shortcuts that have statistics."""
        del bn
        if self.stride == 2:
            x = average_pool_2x2(x)
        return pad_channels(x, self.features)

    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, PyTree]:
        """The block; the second result (here None) is stacked over blocks by the network."""
        del per_block
        return nn.relu(self.shortcut(x, bn) + self.residual(x, bn)), None


class Stem(nn.Module):
    """conv3x3-BN-ReLU: (B, H, W, channels) -> (B, H, W, features)."""

    features: int
    conv: str = "canonical"

    def setup(self) -> None:
        """The stem's layers."""
        self.convolution = Conv(self.features, 3, 1, self.conv, name="conv")
        self.bn = BatchNorm()

    def __call__(self, x: Array, bn: BNMode) -> Array:
        """The stem of a batch; `bn` is `batch` or `running`."""
        return nn.relu(self.bn(self.convolution(x), bn))


class Head(nn.Module):
    """Global average pooling and a linear classifier, in float32: (B, H, W, C) -> (B, classes)."""

    classes: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Logits of a batch."""
        pooled = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
        return nn.Dense(self.classes, name="classifier")(pooled)


class Stage(nn.Module):
    """`size` blocks of equal width; the first stands alone where it changes the shape."""

    size: int
    stride: int
    block: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, PyTree]:
        """Runs the blocks; `per_block` has leading axis `size`, and so has the second result."""
        outs = []
        if _stands_alone(self.stride):
            block = self.block(stride=self.stride, name="first")
            x, out = block(x, _at(per_block, 0), bn)
            outs.append(jax.tree.map(lambda a: a[None], out))
        stacked = self.size - len(outs)
        if stacked:

            def one(block: nn.Module, x: Array, row: PyTree) -> tuple[Array, PyTree]:
                return cast(BasicBlock, block)(x, row, bn)

            scan = nn.scan(
                one,
                variable_axes={"params": 0, "stats": 0, "moments": 0},
                split_rngs={"params": True},
                length=stacked,
            )
            block = self.block(stride=1, name="blocks")
            x, out = scan(block, x, _slice(per_block, len(outs), self.size))
            outs.append(out)
        return x, _concatenate(outs)


@dataclasses.dataclass(frozen=True)
class ResNet:
    """The architecture: what a config says, and where the blocks stand.

    Attributes:
      stage_sizes: blocks per stage; every stage but the first halves the map and doubles the
        width. (n, n, n) is ResNet-(6n+2).
      width: channels of the first stage.
      classes: number of classes.
      conv: implementation of the convolutions, see `jax_elastic.layers.conv`.
    """

    stage_sizes: tuple[int, ...] = (5, 5, 5)
    width: int = 16
    classes: int = 10
    conv: str = "canonical"

    def __post_init__(self) -> None:
        if not self.stage_sizes or min(self.stage_sizes) < 1:
            raise UsageError(f"stage_sizes {self.stage_sizes} has an empty stage", "all >= 1")
        if self.width < 1:
            raise UsageError(f"width {self.width} is not positive")
        if self.classes < 2:
            raise UsageError(f"classes {self.classes} is too few to tell apart", "2 or more")

    @property
    def num_blocks(self) -> int:
        """The number of residual blocks, N."""
        return sum(self.stage_sizes)

    def features(self, stage: int) -> int:
        """Channels of a stage, counted from 0."""
        return self.width << stage

    def stride(self, stage: int) -> int:
        """Stride of the first block of a stage, counted from 0."""
        return 2 if stage else 1

    def sites(self) -> tuple[BlockSite, ...]:
        """Where the blocks stand, in order of execution."""
        found = []
        for i, size in enumerate(self.stage_sizes):
            name, features, stride = f"stage{i + 1}", self.features(i), self.stride(i)
            alone = _stands_alone(stride)
            if alone:
                found.append(BlockSite((name, "first"), None, i, features, stride))
            found += [BlockSite((name, "blocks"), j, i, features, 1) for j in range(size - alone)]
        return tuple(found)

    def stem(self, name: str | None = None) -> Stem:
        """The part before the blocks."""
        return Stem(self.width, self.conv, name=name)

    def head(self, name: str | None = None) -> Head:
        """The part after the blocks."""
        return Head(self.classes, name=name)

    def block(self, site: BlockSite, make: Callable[..., BlockT]) -> BlockT:
        """The block of one site as a module of its own, for variables cut out at `site.path`."""
        return make(features=site.features, stride=site.stride, conv=self.conv)

    def module(self, block: Callable[..., BasicBlock] = BasicBlock) -> "ResNetModule":
        """The whole network with blocks made by `block(features, stride, conv, name)`."""
        return ResNetModule(self, block)


class ResNetModule(nn.Module):
    """The network of an architecture; see `ResNet` and the names above."""

    architecture: ResNet
    block: Callable[..., BasicBlock] = BasicBlock

    @nn.compact
    def __call__(self, images: Array, bn: BNMode, per_block: PyTree = None) -> tuple[Array, PyTree]:
        """Classifies images.

        Args:
          images: float (B, H, W, channels).
          bn: `batch` or `running` statistics.
          per_block: a pytree with leading axis N (blocks), or None; block n receives row n.

        Returns:
          Logits float (B, classes), and what the blocks gave, stacked along a leading axis N.
        """
        net = self.architecture
        x = net.stem(name="stem")(images, bn)
        outs = []
        start = 0
        for i, size in enumerate(net.stage_sizes):
            rows = _slice(per_block, start, start + size)
            block = partial(self.block, features=net.features(i), conv=net.conv)
            x, out = Stage(size, net.stride(i), block, name=f"stage{i + 1}")(x, rows, bn)
            outs.append(out)
            start += size
        return net.head(name="head")(x), _concatenate(outs)


def _stands_alone(stride: int) -> bool:
    """Whether a stage's first block changes the shape and so cannot join the stack."""
    return stride != 1


def _at(tree: PyTree, i: int) -> PyTree:
    return jax.tree.map(lambda a: a[i], tree)


def _slice(tree: PyTree, start: int, stop: int) -> PyTree:
    return jax.tree.map(lambda a: a[start:stop], tree)


def _concatenate(trees: list[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)
