"""ShuffleNetV2 (Ma et al. 2018).

Shapes, costs and what differs from the paper: docs/choices.md N5. Stages have the paper's names:
the first is the stem with its max pool. The equal units of a stage are stacked (leading axis =
unit) and run in one `lax.scan`. Names of the parameter tree, which are public:

    stem/{conv, bn}
    stage2/{first, blocks}/{left, right}     see `jax_elastic.backbones.shuffle_units`
    head/{conv, bn, classifier}
"""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.backbones.parts import Part
from jax_elastic.backbones.resnet import StemKind
from jax_elastic.backbones.shuffle_units import ShuffleStem, ShuffleUnit
from jax_elastic.backbones.stage import Made, Stage, made_of
from jax_elastic.errors import UsageError
from jax_elastic.layers.norm import BatchNorm
from jax_elastic.layers.pointwise import Pointwise

Array = jax.Array
UnitKind = Literal["uneven", "halves"]


class ShuffleHead(nn.Module):
    """1x1-BN-ReLU, global average pooling and a linear classifier, the last two in float32.

    Attributes:
      features: channels that are pooled.
      classes: number of classes.
    """

    features: int
    classes: int

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> tuple[Array, ...]:
        """(B, H, W, C) -> logits (B, classes) of the one label level."""
        x = nn.relu(BatchNorm(name="bn")(Pointwise(self.features, name="conv")(x), bn))
        pooled = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
        return (nn.Dense(self.classes, name="classifier")(pooled),)


@dataclasses.dataclass(frozen=True)
class ShuffleNetV2:
    """The architecture; the default is the 1.5x network.

    The 1x network has `widths` (116, 232, 464), that of 0.5x (48, 96, 192).

    Attributes:
      stage_sizes: units of stages 2, 3, ...; the first of each halves the map.
      widths: channels of the same stages, even.
      stem_width: channels of the stem.
      head_width: channels that are pooled.
      classes: number of classes.
      stem: `imagenet` quarters the map, `cifar` keeps it.
      unit: `uneven`: in a stage's first unit the left branch keeps its channels and the right one
        gives those that are missing. `halves`: each gives half, as torchvision's networks do.
      conv: implementation of the stem's convolution, see `jax_elastic.layers.conv`.
      depthwise: implementation of the depthwise ones, see `jax_elastic.layers.depthwise`.
    """

    stage_sizes: tuple[int, ...] = (4, 8, 4)
    widths: tuple[int, ...] = (176, 352, 704)
    stem_width: int = 24
    head_width: int = 1024
    classes: int = 1000
    stem: StemKind = "imagenet"
    unit: UnitKind = "uneven"
    conv: str = "canonical"
    depthwise: str = "auto"

    def __post_init__(self) -> None:
        if not self.stage_sizes or min(self.stage_sizes) < 1:
            raise UsageError(f"stage_sizes {self.stage_sizes} has an empty stage", "all >= 1")
        if len(self.widths) != len(self.stage_sizes):
            raise UsageError(
                f"widths {self.widths} are not those of {len(self.stage_sizes)} stages",
                "one for each of stage_sizes",
            )
        check_widths(self.stem_width, self.widths, self.head_width)
        if self.classes < 2:
            raise UsageError(f"classes {self.classes} is too few to tell apart", "2 or more")
        if self.stem not in ("cifar", "imagenet"):
            raise UsageError(f"stem {self.stem!r} is unknown", "cifar or imagenet")
        if self.unit not in ("uneven", "halves"):
            raise UsageError(f"unit {self.unit!r} is unknown", "uneven or halves")

    def make_stem(self, name: str | None = None) -> ShuffleStem:
        """The first stage."""
        large = self.stem == "imagenet"
        return ShuffleStem(self.stem_width, 2 if large else 1, large, conv=self.conv, name=name)

    def make_stage(self, stage: int, name: str | None = None) -> Stage:
        """A stage of units, counted from 2."""
        return Stage(self.stage_sizes[stage - 2], 2, True, self._unit(stage), name=name)

    def make_head(self, name: str | None = None) -> ShuffleHead:
        """The part after the units."""
        return ShuffleHead(self.head_width, self.classes, name=name)

    def parts(self) -> tuple[Part, ...]:
        """See `Chain`: the pooled map is resized, and that which a stage's second unit reads."""
        found = [Part(("stem",), self.make_stem(), 0)]
        for stage, size in enumerate(self.stage_sizes, 2):
            path, unit = (f"stage{stage}",), self._unit(stage)
            found.append(Part(path, Stage(1, 2, True, unit), stage - 1, ("first",)))
            if size > 1:
                found.append(Part(path, Stage(size - 1, 1, False, unit), stage, ("blocks",)))
        return (*found, Part(("head",), self.make_head(), len(self.stage_sizes) + 1))

    def standard(self, side: int) -> tuple[int, ...]:
        """See `Chain`; the first is that of the stem's output."""
        first = side if self.stem == "cifar" else -(-side // 4)
        return tuple(-(-first // 2**i) for i in range(len(self.stage_sizes) + 1))

    def reference(self) -> "ShuffleNetV2":
        """The same architecture with the convolutions whose MACs are counted."""
        return dataclasses.replace(self, conv="native", depthwise="native")

    def module(self) -> "ShuffleNetV2Module":
        """The whole network."""
        return ShuffleNetV2Module(self)

    def _unit(self, stage: int) -> Made:
        return made_of(
            ShuffleUnit,
            features=self.widths[stage - 2],
            halves=self.unit == "halves",
            depthwise=self.depthwise,
        )


class ShuffleNetV2Module(nn.Module):
    """The network of an architecture; see `ShuffleNetV2` and the names above."""

    architecture: ShuffleNetV2

    @nn.compact
    def __call__(self, images: Array, bn: BNMode) -> tuple[Array, ...]:
        """Classifies images.

        Args:
          images: float (B, H, W, channels).
          bn: `batch` or `running` statistics.

        Returns:
          Logits float (B, classes) of the one label level.
        """
        net = self.architecture
        x = net.make_stem(name="stem")(images, bn)
        for stage in range(2, len(net.stage_sizes) + 2):
            x, _ = net.make_stage(stage, name=f"stage{stage}")(x, None, bn)
        return net.make_head(name="head")(x, bn)


def check_widths(stem: int, widths: tuple[int, ...], head: int) -> None:
    """Refuses channels that units cannot have.

    Raises:
      UsageError: there is a stage of an odd number of channels, or of no more than come in.
    """
    for name, width in (("stem_width", stem), ("head_width", head)):
        if width < 1:
            raise UsageError(f"{name} {width} is not positive")
    for before, width in zip((stem, *widths), widths, strict=False):
        if width % 2 or width <= before:
            raise UsageError(
                f"widths {widths} after {stem} cannot be those of stages of units",
                "even, and each more than the one before",
            )
