"""ResizableNet: units of ShuffleNetV2 with several kernels, and squeeze and excitation.

The paper's figure of it is missing; what it is taken to be: docs/choices.md N6. Units differ from
one to the next, so none are stacked. Names of the parameter tree, which are public:

    stem/{conv, bn}
    stage1/unit1/{left, right}          the first of a stage; see `shuffle_units` in this package
    stage1/unit2/{right}                the others; in the later stages {right, squeeze}
    head/{conv, bn, squeeze, hidden, classifier}
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.backbones.checks import StemKind, check_classes, check_stem
from jax_elastic.backbones.conv_stem import ConvStem, stem_stride
from jax_elastic.backbones.parts import Chained, Part
from jax_elastic.backbones.shuffle_units import KERNELS, ShuffleUnit
from jax_elastic.backbones.shufflenet_v2 import check_widths
from jax_elastic.errors import UsageError
from jax_elastic.layers.norm import BatchNorm
from jax_elastic.layers.pointwise import Pointwise
from jax_elastic.layers.squeeze import SqueezeExcite

Array = jax.Array

PLAIN_STAGES = 1  # so many have ReLU, the others hard-swish
UNSQUEEZED_STAGES = 2  # so many have no squeeze and excitation


@dataclasses.dataclass(frozen=True)
class ResizableNet(Chained):
    """The architecture; the default is the paper's network.

    Attributes:
      units: the kinds of each stage's units, in order. `3`, `5`, `7` is the side of the depthwise
        kernels, `X` three separable 3x3. The first of a stage halves the map.
      widths: channels of each stage, even.
      stem_width: channels of the stem.
      head_width: channels that are pooled, and those of the hidden layer.
      dropout: share of hidden features that are dropped where the module has an rng `dropout`.
      classes: number of classes.
      stem: `imagenet` halves the map; `cifar` keeps it, and so does the first unit of stage 1.
      conv: implementation of the stem's convolution, see `jax_elastic.layers.conv`.
      depthwise: implementation of the depthwise ones, see `jax_elastic.layers.depthwise`.
    """

    units: tuple[str, ...] = ("33X5", "5533", "73755373", "75X7")
    widths: tuple[int, ...] = (68, 168, 336, 672)
    stem_width: int = 16
    head_width: int = 1280
    dropout: float = 0.5
    classes: int = 1000
    stem: StemKind = "imagenet"
    conv: str = "canonical"
    depthwise: str = "auto"

    def __post_init__(self) -> None:
        if not self.units or not all(self.units) or not set("".join(self.units)) <= set(KERNELS):
            raise UsageError(
                f"units {self.units} are not the kinds of each stage's",
                f"one or more of {' '.join(KERNELS)} for each stage",
                'for example units=("33X5", "5533")',
            )
        if len(self.widths) != len(self.units):
            raise UsageError(
                f"widths {self.widths} are not those of {len(self.units)} stages",
                "one for each of units",
            )
        check_widths(self.stem_width, self.widths, self.head_width)
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout {self.dropout} is not a share", "from 0 to less than 1")
        check_classes(self.classes)
        check_stem(self.stem)

    def stride(self, stage: int) -> int:
        """Stride of the first unit of a stage, counted from 1."""
        return 1 if stage == 1 and self.stem == "cifar" else 2

    def make_unit(self, stage: int, number: int, name: str | None = None) -> ShuffleUnit:
        """One unit; both it and its stage are counted from 1."""
        first = number == 1
        return ShuffleUnit(
            features=self.widths[stage - 1],
            stride=self.stride(stage) if first else 1,
            first=first,
            kind=self.units[stage - 1][number - 1],
            squeeze=stage > UNSQUEEZED_STAGES,
            activation=nn.relu if stage <= PLAIN_STAGES else nn.hard_swish,
            depthwise=self.depthwise,
            name=name,
        )

    def parts(self) -> tuple[Part, ...]:
        """See `Chain`: the map that each stage's second unit reads is resized."""
        stride = stem_stride(self.stem)
        stem = ConvStem(self.stem_width, stride, False, nn.hard_swish, self.conv)
        found = [Part(("stem",), stem, 0, stride=stride)]
        for stage, kinds in enumerate(self.units, 1):
            path, stride = (f"stage{stage}",), self.stride(stage)
            names = tuple(f"unit{number}" for number in range(1, len(kinds) + 1))
            first = Units(self, stage, 1, 1)
            found.append(Part(path, first, stage - 1, names[:1], stride))
            if len(kinds) > 1:
                found.append(Part(path, Units(self, stage, 2, len(kinds)), stage, names[1:]))
        head = ResizableHead(self.head_width, self.dropout, self.classes)
        return (*found, Part(("head",), head, len(self.units)))

    def reference(self) -> "ResizableNet":
        """The same architecture with the convolutions whose MACs are counted."""
        return dataclasses.replace(self, conv="native", depthwise="native")


class Units(nn.Module):
    """Some units of a stage, one after the other.

    Attributes:
      architecture: the network's.
      stage: counted from 1.
      first: the first of them, counted from 1.
      last: the last of them.
    """

    architecture: ResizableNet
    stage: int
    first: int
    last: int

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Array:
        """(B, H, W, C) -> (B, H', W', features)."""
        for number in range(self.first, self.last + 1):
            unit = self.architecture.make_unit(self.stage, number, name=f"unit{number}")
            x, _ = unit(x, None, bn)
        return x


class ResizableHead(nn.Module):
    """1x1-BN-hard-swish, pooling, squeeze, linear-hard-swish, dropout, linear; pooled in float32.

    Attributes:
      features: channels that are pooled, and those of the hidden layer.
      dropout: share of the hidden features that are 0 where there is an rng `dropout`; the others
        are then divided by the share that is left.
      classes: number of classes.
    """

    features: int
    dropout: float
    classes: int

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> tuple[Array, ...]:
        """(B, H, W, C) -> logits (B, classes) of the one label level."""
        x = nn.hard_swish(BatchNorm(name="bn")(Pointwise(self.features, name="conv")(x), bn))
        pooled = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
        pooled = SqueezeExcite(name="squeeze")(pooled, bn)
        hidden = nn.hard_swish(nn.Dense(self.features, name="hidden")(pooled))
        if self.has_rng("dropout"):
            # Always float32, so that float64 draws the same numbers.
            drawn = jax.random.uniform(self.make_rng("dropout"), hidden.shape, jnp.float32)
            kept = 1 - self.dropout
            hidden = jnp.where(drawn < kept, hidden / kept, 0)
        return (nn.Dense(self.classes, name="classifier")(hidden),)
