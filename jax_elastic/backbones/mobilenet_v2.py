"""MobileNetV2: inverted residuals with linear bottlenecks (Sandler et al. 2018).

Shapes and what the paper leaves open: docs/choices.md N1, N2, N4. The paper's table is a list of
rows of equal blocks, of which the first changes the width; the others are stacked and run in one
`lax.scan`. Names of the parameter tree, which are public:

    stem/{conv, bn}
    row1/{first, blocks}/{expand, bn_expand, depthwise, bn_depthwise, project, bn_project}
                            `blocks` is stacked; without expansion there is no `expand`
    last/{conv, bn}
    head/classifier
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.backbones.checks import StemKind, check_classes, check_stem
from jax_elastic.backbones.conv_stem import ConvStem, stem_stride
from jax_elastic.backbones.parts import Chained, Part
from jax_elastic.backbones.resnet import Head
from jax_elastic.backbones.stage import Made, Stage, made_of
from jax_elastic.errors import UsageError
from jax_elastic.layers.depthwise import DepthwiseConv
from jax_elastic.layers.norm import BatchNorm
from jax_elastic.layers.pointwise import Pointwise

Array = jax.Array
PyTree = Any


class Row(NamedTuple):
    """A row of the paper's table 2: blocks that follow one another.

    Attributes:
      expansion: channels in the middle of a block per channel of its input, t.
      features: output channels, c.
      size: how many blocks, n.
      stride: 1 or 2, of the first block, s.
    """

    expansion: int
    features: int
    size: int
    stride: int


PAPER = (
    Row(1, 16, 1, 1),
    Row(6, 24, 2, 2),
    Row(6, 32, 3, 2),
    Row(6, 64, 4, 2),
    Row(6, 96, 3, 1),
    Row(6, 160, 3, 2),
    Row(6, 320, 1, 1),
)
"""The rows of the paper."""


class InvertedResidual(nn.Module):
    """conv1x1-BN-ReLU6-depthwise3x3-BN-ReLU6-conv1x1-BN, added to the input where that fits.

    (B, H, W, C) -> (B, H / stride, W / stride, features). The first convolution and what follows
    it is left out where it would not expand.

    Attributes:
      features: output channels.
      expansion: channels in the middle per channel of the input.
      stride: 1 or 2, of the depthwise convolution.
      first: whether it is the first block of its row; the shapes tell what is added.
      depthwise: implementation, see `jax_elastic.layers.depthwise`.
    """

    features: int
    expansion: int
    stride: int = 1
    first: bool = False
    depthwise: str = "auto"

    @nn.compact
    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, None]:
        """The block; it receives nothing of its own and gives nothing to stack."""
        del per_block
        channels, out = x.shape[-1], x
        if self.expansion > 1:
            out = Pointwise(self.expansion * channels, name="expand")(out)
            out = nn.relu6(BatchNorm(name="bn_expand")(out, bn))
        out = DepthwiseConv(3, self.stride, self.depthwise, name="depthwise")(out)
        out = nn.relu6(BatchNorm(name="bn_depthwise")(out, bn))
        out = Pointwise(self.features, name="project")(out)
        out = BatchNorm(name="bn_project")(out, bn)
        return (x + out if self.stride == 1 and channels == self.features else out), None


class LastConv(nn.Module):
    """conv1x1-BN-ReLU6, which widens what the head pools: (B, H, W, C) -> (B, H, W, features).

    Attributes:
      features: output channels.
    """

    features: int

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Array:
        """The convolution of a batch; `bn` is `batch` or `running`."""
        x = Pointwise(self.features, name="conv")(x)
        return nn.relu6(BatchNorm(name="bn")(x, bn))


@dataclasses.dataclass(frozen=True)
class MobileNetV2(Chained):
    """The architecture: what a config says, and where its map can be resized.

    Attributes:
      rows: (expansion, features, size, stride) of each row, see `Row`. A stage is the rows of one
        map: one starts with each row of stride 2.
      width: channels of the stem.
      last: channels that the head pools.
      classes: number of classes.
      stem: `imagenet` halves the map; `cifar` keeps it, and so does the first row of stride 2.
      conv: implementation of the stem's convolution, see `jax_elastic.layers.conv`.
      depthwise: implementation of the depthwise ones, see `jax_elastic.layers.depthwise`.
    """

    rows: tuple[tuple[int, int, int, int], ...] = PAPER
    width: int = 32
    last: int = 1280
    classes: int = 1000
    stem: StemKind = "imagenet"
    conv: str = "canonical"
    depthwise: str = "auto"

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != 4 or min(row) < 1 or row[3] > 2:
                raise UsageError(
                    f"row {tuple(row)} is none of a MobileNetV2",
                    "(expansion, features, size, stride), all >= 1, stride 1 or 2",
                )
        if 0 in self._kept_blocks():
            raise UsageError(
                f"rows {tuple(map(tuple, self.rows))} leave a map without a block of stride 1",
                "at least 1 on the stem's map and behind each stride 2",
            )
        for name in ("width", "last"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)} is not positive")
        check_classes(self.classes)
        check_stem(self.stem)

    def stride(self, row: int) -> int:
        """Stride of the first block of a row, counted from 0."""
        *_, stride = self.rows[row]
        kept = self.stem == "cifar" and all(before[3] == 1 for before in self.rows[:row])
        return 1 if kept else stride

    def reference(self) -> "MobileNetV2":
        """The same architecture with the convolutions whose MACs are counted."""
        return dataclasses.replace(self, conv="native", depthwise="native")

    def parts(self) -> tuple[Part, ...]:
        """Its parts; a row of stride 2 is cut behind its first block."""
        stride, stage = stem_stride(self.stem), 1
        stem = ConvStem(self.width, stride, activation=nn.relu6, conv=self.conv)
        found = [Part(("stem",), stem, 0, stride=stride)]
        for i, row in enumerate(Row(*row) for row in self.rows):
            path, block = (f"row{i + 1}",), self._block(i)
            if row.stride == 1:
                found.append(Part(path, Stage(row.size, 1, True, block), stage))
                continue
            stride = self.stride(i)
            found.append(Part(path, Stage(1, stride, True, block), stage, ("first",), stride))
            stage += 1
            if row.size > 1:
                blocks = Stage(row.size - 1, 1, False, block)
                found.append(Part(path, blocks, stage, ("blocks",)))
        last, head = LastConv(self.last), Head(self.classes)
        return (*found, Part(("last",), last, stage), Part(("head",), head, stage))

    def _block(self, row: int) -> Made:
        expansion, features, _, _ = self.rows[row]
        return made_of(
            InvertedResidual, features=features, expansion=expansion, depthwise=self.depthwise
        )

    def _kept_blocks(self) -> list[int]:
        """How many blocks of stride 1 each map has."""
        found = [0]
        for row in map(Row._make, self.rows):
            found += [0] * (row.stride - 1)
            found[-1] += row.size - (row.stride - 1)
        return found
