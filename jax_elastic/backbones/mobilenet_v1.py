"""MobileNetV1: pairs of a depthwise and a 1x1 convolution (Howard et al. 2017).

Shapes and what the paper leaves open: docs/choices.md N1, N2, N3. The equal pairs of a stage are
stacked and run in one `lax.scan`. Names of the parameter tree, which are public:

    stem/{conv, bn}
    stage1/{first, blocks}/{depthwise, bn_depthwise, pointwise, bn_pointwise}
                            `first` changes the width, `blocks` is stacked
    head/classifier
"""

import dataclasses
from typing import Any

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


class SeparablePair(nn.Module):
    """depthwise3x3-BN-ReLU-conv1x1-BN-ReLU: (B, H, W, C) -> (B, H / stride, W / stride, features).

    Attributes:
      features: output channels.
      stride: 1 or 2, of the depthwise convolution.
      first: whether it is the first pair of its stage; it changes nothing here.
      depthwise: implementation, see `jax_elastic.layers.depthwise`.
    """

    features: int
    stride: int = 1
    first: bool = False
    depthwise: str = "auto"

    @nn.compact
    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, None]:
        """The pair; it receives nothing of its own and gives nothing to stack."""
        del per_block
        x = DepthwiseConv(3, self.stride, self.depthwise, name="depthwise")(x)
        x = nn.relu(BatchNorm(name="bn_depthwise")(x, bn))
        x = Pointwise(self.features, name="pointwise")(x)
        return nn.relu(BatchNorm(name="bn_pointwise")(x, bn)), None


@dataclasses.dataclass(frozen=True)
class MobileNetV1(Chained):
    """The architecture: what a config says, and where its map can be resized.

    Attributes:
      stage_sizes: pairs per stage. Every stage but the first halves the map in its first pair,
        which is before the place where the map is resized, so it has another.
      width: channels of the stem; a stage has twice as many as what is before it.
      classes: number of classes.
      stem: `imagenet` halves the map; `cifar` keeps it, and so does stage 2.
      conv: implementation of the stem's convolution, see `jax_elastic.layers.conv`.
      depthwise: implementation of the depthwise ones, see `jax_elastic.layers.depthwise`.
    """

    stage_sizes: tuple[int, ...] = (1, 2, 2, 6, 2)
    width: int = 32
    classes: int = 1000
    stem: StemKind = "imagenet"
    conv: str = "canonical"
    depthwise: str = "auto"

    def __post_init__(self) -> None:
        firsts, others = self.stage_sizes[:1], self.stage_sizes[1:]
        if min(firsts, default=0) < 1 or min(others, default=2) < 2:
            raise UsageError(
                f"stage_sizes {self.stage_sizes} has a stage without a pair of stride 1",
                "at least 1 pair in the first stage and 2 in each other",
            )
        if self.width < 1:
            raise UsageError(f"width {self.width} is not positive")
        check_classes(self.classes)
        check_stem(self.stem)

    def features(self, stage: int) -> int:
        """Output channels of the pairs of a stage, counted from 0."""
        return self.width << (stage + 1)

    def stride(self, stage: int) -> int:
        """Stride of the first pair of a stage, counted from 0."""
        kept = 0 if self.stem == "imagenet" else 1
        return 2 if stage > kept else 1

    def reference(self) -> "MobileNetV1":
        """The same architecture with the convolutions whose MACs are counted."""
        return dataclasses.replace(self, conv="native", depthwise="native")

    def parts(self) -> tuple[Part, ...]:
        """Its parts; all but the first stage are cut behind the pair that halves the map."""
        stride = stem_stride(self.stem)
        stem = ConvStem(self.width, stride, conv=self.conv)
        sizes, first = self.stage_sizes, Stage(self.stage_sizes[0], 1, True, self._pair(0))
        found = [Part(("stem",), stem, 0, stride=stride), Part(("stage1",), first, 1)]
        for i, size in enumerate(sizes[1:], 1):
            path, pair, stride = (f"stage{i + 1}",), self._pair(i), self.stride(i)
            found += [
                Part(path, Stage(1, stride, True, pair), i, ("first",), stride),
                Part(path, Stage(size - 1, 1, False, pair), i + 1, ("blocks",)),
            ]
        return (*found, Part(("head",), Head(self.classes), len(sizes)))

    def _pair(self, stage: int) -> Made:
        return made_of(SeparablePair, features=self.features(stage), depthwise=self.depthwise)
