"""IS-ResNeXt: a ResNeXt of K sub-features, each computed from itself and those before it.

The width and the branches are shared evenly among sub-features x_1 ... x_K. Branch group j reads
x_1 ... x_j and is added to x_j alone, so what sub-feature j holds does not depend on any later
one: the first j are a network by themselves, of the same kind. conv1 is block-lower-triangular
(outputs of group j, inputs up to j), conv2 a ResNeXt's, conv3 has a group per sub-feature. Names of
the parameter tree, which are public:

    stem/conv
    stage1/blocks/{bn1, conv1/{group1 ... groupK}, bn2, conv2, bn3, conv3}     stacked
    exit1 ... exitK/{bn, classifier}
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.backbones.checks import StemKind
from jax_elastic.backbones.exits import Exit, wanted_exits
from jax_elastic.backbones.resnext import ConvStem
from jax_elastic.backbones.stage import Stage
from jax_elastic.errors import UsageError
from jax_elastic.layers.downsample import average_pool_2x2, pad_channels
from jax_elastic.layers.grouped import GroupedConv
from jax_elastic.layers.norm import BatchNorm
from jax_elastic.layers.pointwise import pointwise

Array = jax.Array
PyTree = Any
Mixing = Literal["masked", "sliced"]


class Kernel(nn.Module):
    """A kernel by itself.

    Attributes:
      shape: of the kernel.
      spread: standard deviation at the start.
    """

    shape: tuple[int, ...]
    spread: float

    @nn.compact
    def __call__(self) -> Array:
        """The parameter `kernel`, float32."""
        kernel: Array = self.param(
            "kernel", nn.initializers.normal(self.spread), self.shape, jnp.float32
        )
        return kernel


class TriangularPointwise(nn.Module):
    """A 1x1 convolution whose output group j reads the input groups 1 ... j.

    Attributes:
      features: output channels of all groups.
      groups: K, of inputs and of outputs.
      mixing: `sliced`, K products; `masked`, one product with zeros above the diagonal.

    Parameters:
      group1 ... groupK / kernel: (1, 1, j C / K, features / K) float32, normal with variance
        2 / features.
    """

    features: int
    groups: int
    mixing: Mixing = "masked"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(..., C) -> (..., features)."""
        share, out = x.shape[-1] // self.groups, self.features // self.groups
        spread = (2 / self.features) ** 0.5
        kernels = [
            Kernel((1, 1, j * share, out), spread, name=f"group{j}")().astype(x.dtype)
            for j in range(1, self.groups + 1)
        ]
        if self.mixing == "sliced":
            parts = (pointwise(x[..., : kernel.shape[2]], kernel) for kernel in kernels)
            return jnp.concatenate(list(parts), -1)
        whole = [
            jnp.pad(kernel, ((0, 0), (0, 0), (0, x.shape[-1] - kernel.shape[2]), (0, 0)))
            for kernel in kernels
        ]
        return pointwise(x, jnp.concatenate(whole, -1))


class GroupedPointwise(nn.Module):
    """A 1x1 convolution in groups, as a product for each.

    Attributes:
      features: output channels of all groups.
      groups: of inputs and of outputs.

    Parameters:
      kernel: (1, 1, C / groups, features) float32, normal with variance 2 / features.
    """

    features: int
    groups: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(..., C) -> (..., features)."""
        shape = (1, 1, x.shape[-1] // self.groups, self.features)
        init = nn.initializers.normal((2 / self.features) ** 0.5)
        kernel = self.param("kernel", init, shape, jnp.float32).astype(x.dtype)
        inputs, kernels = (jnp.split(a, self.groups, -1) for a in (x, kernel))
        return jnp.concatenate([pointwise(*pair) for pair in zip(inputs, kernels, strict=True)], -1)


class TriangularBlock(nn.Module):
    """x_j + F_j(x_1 ... x_j) for every sub-feature j: (B, H, W, features) -> the same.

    Attributes:
      features: width.
      groups: K, sub-features.
      branches: groups of the 3x3 convolution, in all.
      branch_width: channels of a branch.
      stride: 1; a stage's map is halved before its first block.
      mixing: of the first convolution, see `TriangularPointwise`.
      conv: implementation of the 3x3 convolution, see `jax_elastic.layers.grouped`.
    """

    features: int
    groups: int
    branches: int
    branch_width: int
    stride: int = 1
    mixing: Mixing = "masked"
    conv: str = "auto"

    @nn.compact
    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, None]:
        """The block; gives nothing to stack."""
        del per_block
        middle = self.branches * self.branch_width
        mixed = TriangularPointwise(middle, self.groups, self.mixing, name="conv1")
        y = mixed(nn.relu(BatchNorm(name="bn1")(x, bn)))
        grouped = GroupedConv(self.branches, middle, impl=self.conv, name="conv2")
        y = grouped(nn.relu(BatchNorm(name="bn2")(y, bn)))
        last = GroupedPointwise(self.features, self.groups, name="conv3")
        return x + last(nn.relu(BatchNorm(name="bn3")(y, bn))), None


def downsample(x: Array, features: int, groups: int) -> Array:
    """2x2 average pool, and zero channels behind each sub-feature.

    (B, H, W, C) -> (B, H/2, W/2, features). Zeros behind all of them would move channels of one
    sub-feature into another (docs/choices.md A3).
    """
    parts = jnp.split(average_pool_2x2(x), groups, -1)
    return jnp.concatenate([pad_channels(part, features // groups) for part in parts], -1)


@dataclasses.dataclass(frozen=True)
class ISResNeXt:
    """The architecture: what a config says, and where the blocks stand.

    Attributes:
      stage_sizes: blocks per stage; every stage but the first halves the map and doubles both
        widths.
      width: channels of the stem and of the first stage.
      branches: groups of the 3x3 convolutions, C.
      branch_width: channels of a branch in the first stage, b.
      subfeatures: K; it divides `width` and `branches`.
      classes: number of classes of each label level, the finest first.
      stem: `cifar` keeps the map's size, `imagenet` quarters it.
      conv: implementation of the stem's convolution, see `jax_elastic.layers.conv`.
      grouped: implementation of the grouped convolutions, see `jax_elastic.layers.grouped`.
      mixing: of the triangular convolutions, see `TriangularPointwise`.

    References:
      Anytime neural prediction, section 2.2; docs/choices.md A3, A4.
    """

    stage_sizes: tuple[int, ...] = (5, 5, 5)
    width: int = 96
    branches: int = 18
    branch_width: int = 4
    subfeatures: int = 6
    classes: tuple[int, ...] = (10,)
    stem: StemKind = "cifar"
    conv: str = "canonical"
    grouped: str = "auto"
    mixing: Mixing = "masked"

    def __post_init__(self) -> None:
        if not self.stage_sizes or min(self.stage_sizes) < 1:
            raise UsageError(f"stage_sizes {self.stage_sizes} has an empty stage", "all >= 1")
        for name in ("width", "branches", "branch_width", "subfeatures"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)} is not positive")
        for name in ("width", "branches"):
            if getattr(self, name) % self.subfeatures:
                value = getattr(self, name)
                raise UsageError(
                    f"{name} {value} cannot be shared by {self.subfeatures} sub-features",
                    f"a multiple of {self.subfeatures}",
                )
        if not self.classes or min(self.classes) < 2:
            raise UsageError(
                f"classes {self.classes} are too few to tell apart", "2 or more at each level"
            )

    @property
    def exits(self) -> int:
        """The number of exits: one behind each sub-feature."""
        return self.subfeatures

    def features(self, stage: int) -> int:
        """Width of a stage, counted from 0."""
        return self.width << stage

    def first(self, k: int) -> "ISResNeXt":
        """The architecture of the first k sub-features, which is one of the same kind."""
        return dataclasses.replace(
            self,
            width=self.width * k // self.subfeatures,
            branches=self.branches * k // self.subfeatures,
            subfeatures=k,
        )

    def reference(self) -> "ISResNeXt":
        """The same architecture with the convolutions whose MACs are counted."""
        return dataclasses.replace(self, conv="native", grouped="native", mixing="sliced")

    def make_stem(self, name: str | None = None) -> ConvStem:
        """The part before the blocks."""
        return ConvStem(self.width, self.stem, self.conv, name=name)

    def make_stage(self, stage: int, name: str | None = None) -> Stage:
        """The blocks of a stage, counted from 0, on its own map."""
        return Stage(self.stage_sizes[stage], 1, False, self.block(stage), name=name)

    def make_exit(self, k: int, name: str | None = None) -> Exit:
        """The classifiers of exit k, which is applied to the first k sub-features."""
        del k
        return Exit(self.classes, name=name)

    def block(self, stage: int) -> Callable[..., TriangularBlock]:
        """Makes a block of a stage, counted from 0."""
        return partial(
            TriangularBlock,
            features=self.features(stage),
            groups=self.subfeatures,
            branches=self.branches,
            branch_width=self.branch_width << stage,
            mixing=self.mixing,
            conv=self.grouped,
        )

    def module(self) -> "ISResNeXtModule":
        """The whole network."""
        return ISResNeXtModule(self)


class ISResNeXtModule(nn.Module):
    """The network of an architecture; see `ISResNeXt` and the names above."""

    architecture: ISResNeXt

    @nn.compact
    def __call__(
        self, images: Array, bn: BNMode, exits: tuple[int, ...] | None = None
    ) -> tuple[tuple[Array, ...], ...]:
        """Classifies images in one pass.

        Args:
          images: float (B, H, W, channels).
          bn: `batch` or `running` statistics.
          exits: which exits answer, from 1; None for all.

        Returns:
          For each of `exits`, logits (B, classes) of each label level.
        """
        net = self.architecture
        x = net.make_stem(name="stem")(images, bn)
        for i in range(len(net.stage_sizes)):
            if i:
                x = downsample(x, net.features(i), net.subfeatures)
            x, _ = net.make_stage(i, name=f"stage{i + 1}")(x, None, bn)
        share = x.shape[-1] // net.subfeatures
        return tuple(
            net.make_exit(k, name=f"exit{k}")(x[..., : k * share], bn)
            for k in wanted_exits(exits, net.subfeatures)
        )
