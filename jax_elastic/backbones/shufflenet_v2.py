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
from jax_elastic.backbones.checks import StemKind, check_classes, check_stem
from jax_elastic.backbones.conv_stem import ConvStem, stem_stride
from jax_elastic.backbones.parts import Chained, Part
from jax_elastic.backbones.shuffle_units import ShuffleUnit
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
class ShuffleNetV2(Chained):
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
        check_classes(self.classes)
        check_stem(self.stem)
        if self.unit not in ("uneven", "halves"):
            raise UsageError(f"unit {self.unit!r} is unknown", "uneven or halves")

    def parts(self) -> tuple[Part, ...]:
        """See `Chain`: the pooled map is resized, and that which a stage's second unit reads."""
        stride, pool = stem_stride(self.stem), self.stem == "imagenet"
        stem = ConvStem(self.stem_width, stride, pool, conv=self.conv)
        found = [Part(("stem",), stem, 0, stride=2 * stride if pool else stride)]
        for i, size in enumerate(self.stage_sizes):
            path, unit = (f"stage{i + 2}",), self._unit(i)
            found.append(Part(path, Stage(1, 2, True, unit), i + 1, ("first",), 2))
            if size > 1:
                found.append(Part(path, Stage(size - 1, 1, False, unit), i + 2, ("blocks",)))
        head = ShuffleHead(self.head_width, self.classes)
        return (*found, Part(("head",), head, len(self.stage_sizes) + 1))

    def reference(self) -> "ShuffleNetV2":
        """The same architecture with the convolutions whose MACs are counted."""
        return dataclasses.replace(self, conv="native", depthwise="native")

    def _unit(self, stage: int) -> Made:
        return made_of(
            ShuffleUnit,
            features=self.widths[stage],
            halves=self.unit == "halves",
            depthwise=self.depthwise,
        )


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
