"""ResNets for CIFAR (basic blocks) and ImageNet (bottlenecks): He et al. 2016.

Shapes, costs and what differs from the paper: docs/choices.md B1, B2, B4.

The equal blocks of a stage are stacked (leading axis = block) and run in one `lax.scan`, so
compile time does not grow with depth. Names of the parameter tree, which are public:

    stem/{conv, bn}
    stage1/{first, blocks}/{conv1, bn1, conv2, bn2}     `first` differs, `blocks` is stacked
                            and {conv3, bn3, projection, bn_projection} of bottlenecks
    head/classifier
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BLOCKS, BlockKind, BNMode, ResidualBlock
from jax_elastic.backbones.checks import StemKind, check_classes, check_stem
from jax_elastic.backbones.parts import Chained, Part
from jax_elastic.backbones.stage import Stage, join, made_of, rows
from jax_elastic.errors import UsageError
from jax_elastic.layers.conv import Conv
from jax_elastic.layers.norm import BatchNorm

Array = jax.Array
PyTree = Any
BlockT = TypeVar("BlockT")


@dataclasses.dataclass(frozen=True)
class BlockSite:
    """Where a residual block stands in a network.

    Attributes:
      path: its place in the variables, e.g. ``("stage2", "blocks")``.
      index: its place in the stack, or None where it is not stacked.
      stage: counted from 0.
      features: width.
      stride: 1 or 2.
    """

    path: tuple[str, ...]
    index: int | None
    stage: int
    features: int
    stride: int


class Stem(nn.Module):
    """The part before the blocks: (B, H, W, channels) -> (B, H', W', features).

    Attributes:
      features: output channels.
      kind: `cifar` is conv3x3-BN-ReLU; `imagenet` is conv7x7 of stride 2, BN, ReLU and a 3x3 max
        pool of stride 2.
      conv: implementation of the convolution.
    """

    features: int
    kind: StemKind = "cifar"
    conv: str = "canonical"

    def setup(self) -> None:
        """The stem's layers."""
        size, stride = (3, 1) if self.kind == "cifar" else (7, 2)
        self.convolution = Conv(self.features, size, stride, self.conv, name="conv")
        self.bn = BatchNorm()

    def __call__(self, x: Array, bn: BNMode) -> Array:
        """The stem of a batch; `bn` is `batch` or `running`."""
        x = nn.relu(self.bn(self.convolution(x), bn))
        if self.kind == "imagenet":
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        return x


class Head(nn.Module):
    """Global average pooling and a linear classifier, in float32."""

    classes: int

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> tuple[Array, ...]:
        """(B, H, W, C) -> logits (B, classes) of the one label level; it has no statistics."""
        del bn
        pooled = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
        return (nn.Dense(self.classes, name="classifier")(pooled),)


@dataclasses.dataclass(frozen=True)
class ResNet(Chained):
    """The architecture: what a config says, and where the blocks stand.

    Attributes:
      stage_sizes: blocks per stage; every stage but the first halves the map and doubles the
        width. (n, n, n) with basic blocks is ResNet-(6n+2) for CIFAR.
      width: channels of the stem and width of the first stage.
      classes: number of classes.
      block: `basic`, with parameter-free shortcuts; `bottleneck`, with projections.
      stem: `cifar` keeps the map's size, `imagenet` quarters it.
      conv: implementation of the convolutions, see `jax_elastic.layers.conv`.
    """

    stage_sizes: tuple[int, ...] = (5, 5, 5)
    width: int = 16
    classes: int = 10
    block: BlockKind = "basic"
    stem: StemKind = "cifar"
    conv: str = "canonical"

    def __post_init__(self) -> None:
        if not self.stage_sizes or min(self.stage_sizes) < 1:
            raise UsageError(f"stage_sizes {self.stage_sizes} has an empty stage", "all >= 1")
        if self.width < 1:
            raise UsageError(f"width {self.width} is not positive")
        check_classes(self.classes)
        check_stem(self.stem)

    @property
    def num_blocks(self) -> int:
        """The number of residual blocks, N."""
        return sum(self.stage_sizes)

    def features(self, stage: int) -> int:
        """Width of the blocks of a stage, counted from 0."""
        return self.width << stage

    def stride(self, stage: int) -> int:
        """Stride of the first block of a stage, counted from 0."""
        return 2 if stage else 1

    def alone(self, stage: int) -> bool:
        """Whether the first block of a stage differs from the others and cannot join the stack."""
        return self.block == "bottleneck" or self.stride(stage) != 1

    def sites(self) -> tuple[BlockSite, ...]:
        """Where the blocks stand, in order of execution."""
        found = []
        for i, size in enumerate(self.stage_sizes):
            name, features, alone = f"stage{i + 1}", self.features(i), self.alone(i)
            if alone:
                found.append(BlockSite((name, "first"), None, i, features, self.stride(i)))
            found += [BlockSite((name, "blocks"), j, i, features, 1) for j in range(size - alone)]
        return tuple(found)

    def make_stem(self, name: str | None = None) -> Stem:
        """The part before the blocks."""
        return Stem(self.width, self.stem, self.conv, name=name)

    def make_stage(self, stage: int, kind: Callable[..., ResidualBlock], name: str) -> Stage:
        """A stage, counted from 0, of blocks made by `kind`."""
        block = partial(kind, features=self.features(stage), conv=self.conv)
        return Stage(
            self.stage_sizes[stage], self.stride(stage), self.alone(stage), block, name=name
        )

    def make_head(self, name: str | None = None) -> Head:
        """The part after the blocks."""
        return Head(self.classes, name=name)

    def make_block(self, site: BlockSite) -> ResidualBlock:
        """The plain block of one site as a module of its own, see `make_block_of`."""
        return self.make_block_of(BLOCKS[self.block], site)

    def make_block_of(self, kind: Callable[..., BlockT], site: BlockSite) -> BlockT:
        """The block of one site, made by `kind`, for variables cut out at `site.path`."""
        first = site.path[-1] == "first"
        return kind(features=site.features, stride=site.stride, first=first, conv=self.conv)

    def parts(self) -> tuple[Part, ...]:
        """See `Chain`: a stride block reads the map of the stage before its own."""
        found = [Part(("stem",), self.make_stem(), 0, stride=1 if self.stem == "cifar" else 4)]
        for i, size in enumerate(self.stage_sizes):
            path, alone = (f"stage{i + 1}",), self.alone(i)
            block = made_of(BLOCKS[self.block], features=self.features(i), conv=self.conv)
            if alone:
                stride = self.stride(i)
                first = Stage(1, stride, True, block)
                found.append(Part(path, first, max(i, 1), ("first",), stride))
            if size > alone:
                found.append(Part(path, Stage(size - alone, 1, False, block), i + 1, ("blocks",)))
        return (*found, Part(("head",), self.make_head(), len(self.stage_sizes)))

    def resnet8(self) -> "ResNet":
        """A small network beside this one: three basic blocks, as wide, for the same images."""
        return dataclasses.replace(self, stage_sizes=(1, 1, 1), block="basic")

    def reference(self) -> "ResNet":
        """The same architecture with the convolutions whose MACs are counted."""
        return dataclasses.replace(self, conv="native")

    def module(self, kind: Callable[..., ResidualBlock] | None = None) -> "ResNetModule":
        """The whole network; its blocks are made by `kind`, or are plain ones of `self.block`."""
        return ResNetModule(self, kind or BLOCKS[self.block])


class ResNetModule(nn.Module):
    """The network of an architecture; see `ResNet` and the names above."""

    architecture: ResNet
    kind: Callable[..., ResidualBlock]

    @nn.compact
    def __call__(
        self, images: Array, bn: BNMode, per_block: PyTree = None
    ) -> tuple[tuple[Array, ...], PyTree]:
        """Classifies images.

        Args:
          images: float (B, H, W, channels).
          bn: `batch` or `running` statistics.
          per_block: a pytree with leading axis N (blocks), or None; block n receives row n.

        Returns:
          Logits float (B, classes) of each label level, and what the blocks gave, stacked along
          a leading axis N.
        """
        x = self.architecture.make_stem(name="stem")(images, bn)
        return after_stem(self.architecture, self.kind, x, bn, per_block)


def after_stem(
    net: ResNet, kind: Callable[..., ResidualBlock], x: Array, bn: BNMode, per_block: PyTree
) -> tuple[tuple[Array, ...], PyTree]:
    """Stages and head, for the compact method of a module whose children they become.

    Args:
      net: the architecture.
      kind: makes its blocks.
      x: what the stem gave, (B, H, W, width).
      bn: `batch` or `running` statistics.
      per_block: see `ResNetModule`.

    Returns:
      See `ResNetModule`.
    """
    outs = []
    start = 0
    for i, size in enumerate(net.stage_sizes):
        own = rows(per_block, start, start + size)
        x, out = net.make_stage(i, kind, name=f"stage{i + 1}")(x, own, bn)
        outs.append(out)
        start += size
    return net.make_head(name="head")(x, bn), join(outs)
