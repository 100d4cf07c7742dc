"""Pre-activation ResNeXts with parameter-free transitions (Anytime neural prediction, section 3).

A block is x + F(x) with F = BN-ReLU-1x1, BN-ReLU-3x3 in groups, BN-ReLU-1x1. Its middle consists
of `branches` groups that never meet, so a network of the first few branches is a network of the
same kind. Between stages the map is halved by a 2x2 average pool and zero channels are appended;
no convolution has a stride but the stem of ImageNet. Names of the parameter tree, which are public:

    stem/conv
    stage1/blocks/{bn1, conv1, bn2, conv2, bn3, conv3}     stacked (leading axis = block)
    head/{bn, classifier}
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.backbones.checks import StemKind
from jax_elastic.backbones.exits import Exit
from jax_elastic.backbones.resnet import BlockSite
from jax_elastic.backbones.stage import Stage
from jax_elastic.errors import UsageError
from jax_elastic.layers.conv import Conv
from jax_elastic.layers.downsample import average_pool_2x2, pad_channels
from jax_elastic.layers.grouped import GroupedConv
from jax_elastic.layers.norm import BatchNorm
from jax_elastic.layers.pointwise import Pointwise

Array = jax.Array
PyTree = Any


class ConvStem(nn.Module):
    """A convolution without BN or ReLU, which the first block has: (B, H, W, channels) -> x.

    Attributes:
      features: output channels.
      kind: `cifar` is conv3x3; `imagenet` conv7x7 of stride 2 and a 2x2 max pool.
      conv: implementation of the convolution.
    """

    features: int
    kind: StemKind = "cifar"
    conv: str = "canonical"

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Array:
        """The stem of a batch; it has no statistics, so `bn` changes nothing."""
        del bn
        size, stride = (3, 1) if self.kind == "cifar" else (7, 2)
        x = Conv(self.features, size, stride, self.conv, name="conv")(x)
        if self.kind == "imagenet":
            odd = tuple((0, side % 2) for side in x.shape[1:3])
            x = nn.max_pool(x, (2, 2), (2, 2), odd)
        return x


class PreActivationBlock(nn.Module):
    """x + F(x): (B, H, W, C) -> (B, H / stride, W / stride, features).

    Attributes:
      features: width.
      branches: groups of the 3x3 convolution.
      branch_width: channels of a group.
      stride: 1, or 2 where the map is halved before the block, which pads zero channels.
      conv: implementation of the grouped convolution, see `jax_elastic.layers.grouped`.
    """

    features: int
    branches: int
    branch_width: int
    stride: int = 1
    conv: str = "auto"

    def setup(self) -> None:
        """The block's layers."""
        middle = self.branches * self.branch_width
        self.bn1 = BatchNorm()
        self.conv1 = Pointwise(middle)
        self.bn2 = BatchNorm()
        self.conv2 = GroupedConv(self.branches, middle, impl=self.conv)
        self.bn3 = BatchNorm()
        self.conv3 = Pointwise(self.features)

    def residual(self, x: Array, bn: BNMode) -> Array:
        """F of what the shortcut gives."""
        x = self.conv1(nn.relu(self.bn1(x, bn)))
        x = self.conv2(nn.relu(self.bn2(x, bn)))
        return self.conv3(nn.relu(self.bn3(x, bn)))

    def shortcut(self, x: Array, bn: BNMode) -> Array:
        """x, or x on the next stage's map; it has no statistics, so `bn` changes nothing."""
        del bn
        return downsample(x, self.features) if self.stride == 2 else x

    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, None]:
        """The block; gives nothing to stack."""
        del per_block
        x = self.shortcut(x, bn)
        return x + self.residual(x, bn), None


def downsample(x: Array, features: int) -> Array:
    """2x2 average pool and appended zero channels: (B, H, W, C) -> (B, H/2, W/2, features)."""
    return pad_channels(average_pool_2x2(x), features)


@dataclasses.dataclass(frozen=True)
class ResNeXt:
    """The architecture: what a config says, and where the blocks stand.

    Attributes:
      stage_sizes: blocks per stage; every stage but the first halves the map and doubles both
        widths. (n, n, n) has 9n + 2 layers.
      width: channels of the stem and of the first stage.
      branches: groups of the 3x3 convolutions, C.
      branch_width: channels of a group in the first stage, b.
      classes: number of classes.
      stem: `cifar` keeps the map's size, `imagenet` quarters it.
      conv: implementation of the stem's convolution, see `jax_elastic.layers.conv`.
      grouped: implementation of the grouped convolutions, see `jax_elastic.layers.grouped`.
    """

    stage_sizes: tuple[int, ...] = (3, 3, 3)
    width: int = 64
    branches: int = 8
    branch_width: int = 4
    classes: int = 10
    stem: StemKind = "cifar"
    conv: str = "canonical"
    grouped: str = "auto"

    def __post_init__(self) -> None:
        if not self.stage_sizes or min(self.stage_sizes) < 1:
            raise UsageError(f"stage_sizes {self.stage_sizes} has an empty stage", "all >= 1")
        for name in ("width", "branches", "branch_width"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)} is not positive")
        if self.classes < 2:
            raise UsageError(f"classes {self.classes} is too few to tell apart", "2 or more")

    @property
    def num_blocks(self) -> int:
        """The number of residual blocks."""
        return sum(self.stage_sizes)

    def features(self, stage: int) -> int:
        """Width of a stage, counted from 0."""
        return self.width << stage

    def sites(self) -> tuple[BlockSite, ...]:
        """Where the blocks stand, in order of execution."""
        return tuple(
            BlockSite((f"stage{i + 1}", "blocks"), j, i, self.features(i), 2 if i and not j else 1)
            for i, size in enumerate(self.stage_sizes)
            for j in range(size)
        )

    def reference(self) -> "ResNeXt":
        """The same architecture with the convolutions whose MACs are counted."""
        return dataclasses.replace(self, conv="native", grouped="native")

    def make_stem(self, name: str | None = None) -> ConvStem:
        """The part before the blocks."""
        return ConvStem(self.width, self.stem, self.conv, name=name)

    def make_head(self, name: str | None = None) -> Exit:
        """The part after the blocks."""
        return Exit((self.classes,), name=name)

    def make_block(self, site: BlockSite, name: str | None = None) -> PreActivationBlock:
        """The block of one site as a module of its own, for variables cut out at `site.path`."""
        return self._block(site.stage)(stride=site.stride, name=name)

    def make_stage(self, stage: int, name: str) -> Stage:
        """The blocks of a stage, counted from 0, on its own map."""
        return Stage(self.stage_sizes[stage], 1, False, self._block(stage), name=name)

    def module(self) -> "ResNeXtModule":
        """The whole network."""
        return ResNeXtModule(self)

    def _block(self, stage: int) -> Callable[..., PreActivationBlock]:
        return partial(
            PreActivationBlock,
            features=self.features(stage),
            branches=self.branches,
            branch_width=self.branch_width << stage,
            conv=self.grouped,
        )


class ResNeXtModule(nn.Module):
    """The network of an architecture; see `ResNeXt` and the names above."""

    architecture: ResNeXt

    @nn.compact
    def __call__(
        self, images: Array, bn: BNMode, per_block: PyTree = None
    ) -> tuple[tuple[Array, ...], PyTree]:
        """As `jax_elastic.backbones.resnet.ResNetModule`; its blocks receive and give nothing."""
        net = self.architecture
        x = net.make_stem(name="stem")(images, bn)
        for i in range(len(net.stage_sizes)):
            if i:
                x = downsample(x, net.features(i))
            x, _ = net.make_stage(i, name=f"stage{i + 1}")(x, None, bn)
        return net.make_head(name="head")(x, bn), None
