"""MSDNet, a densely connected network of several scales with exits on the way: Huang et al. 2018.

Layers, costs and what differs from the paper: docs/choices.md M1, M2, M3, M4.

It is cut into increments: increment k is everything between the exits k - 1 and k, and hands on
what the later ones read. Names of the parameter tree, which are public:

    increment1/first/scale1                {conv, bn}, and so on; for ImageNet scale1 has a `bias`
    increment1/layer1/{normal1, down2}     {conv1, bn1, conv2, bn2}, and so on; the number is that
                                           of the scale they add to, 1 the finest
    increment4/layer1/transition2          {conv, bn}, and so on, where a layer drops a scale
    exit1/{bn, classifier, classifier2}    one classifier per label level
"""

import dataclasses
from typing import Literal, cast

import flax.linen as nn
import jax

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.backbones.checks import StemKind
from jax_elastic.backbones.exits import ChainModule, Exit
from jax_elastic.backbones.msd_layers import Features, FirstLayer, Layer
from jax_elastic.errors import UsageError

Array = jax.Array
Logits = tuple[Array, ...]
StepMode = Literal["even", "lin_grow"]


@dataclasses.dataclass(frozen=True)
class LayerSite:
    """Where a layer stands in a network.

    Attributes:
      increment: counted from 1.
      finest: the finest scale that it gives, counted from 0.
      drops: whether it receives one finer scale than it gives; its transition then leaves half
        of the channels.
      channels: what it hands on at a scale of growth factor 1.
    """

    increment: int
    finest: int
    drops: bool
    channels: int


@dataclasses.dataclass(frozen=True)
class MSDNet:
    """The architecture: what a config says, and where the layers stand.

    The layers are cut into as many equal runs as there are scales; at the start of each run but
    the first the finest scale is dropped.

    Attributes:
      exits: number of increments, each with an exit behind it.
      base: layers of the first increment.
      step: what the layers of the others are counted from, see `stepmode`.
      stepmode: increment k > 1 has `step` layers (`even`) or (k - 1) step + 1 (`lin_grow`).
      channels: of the first layer, at a scale of growth factor 1.
      growth: channels that a layer adds, at a scale of growth factor 1.
      growth_factors: what both are multiplied by at each scale, finest first.
      bottleneck_factors: channels between the two convolutions of a unit per channel that it
        gives, for each scale that it reads from.
      classes: the number of classes of each label level, finest first.
      stem: `cifar` keeps the map's size at the finest scale, `imagenet` quarters it.
      conv: implementation of the convolutions, see `jax_elastic.layers.conv`.
    """

    exits: int = 10
    base: int = 4
    step: int = 2
    stepmode: StepMode = "even"
    channels: int = 16
    growth: int = 6
    growth_factors: tuple[int, ...] = (1, 2, 4)
    bottleneck_factors: tuple[int, ...] = (1, 2, 4)
    classes: tuple[int, ...] = (10,)
    stem: StemKind = "cifar"
    conv: str = "canonical"

    def __post_init__(self) -> None:
        for name in ("exits", "base", "step", "channels", "growth"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)} is not positive")
        if self.stepmode not in ("even", "lin_grow"):
            raise UsageError(f"stepmode {self.stepmode!r} is unknown", "even or lin_grow")
        self._check_factors()
        if not self.classes or min(self.classes) < 2:
            raise UsageError(
                f"classes {self.classes} leave nothing to tell apart", "2 or more per label level"
            )

    def _check_factors(self) -> None:
        growth, bottleneck = self.growth_factors, self.bottleneck_factors
        if not growth or len(growth) != len(bottleneck):
            raise UsageError(
                f"growth_factors {growth} and bottleneck_factors {bottleneck} do not name the "
                "same scales",
                "one of each per scale",
            )
        if min(*growth, *bottleneck) < 1:
            raise UsageError(
                f"growth_factors {growth} or bottleneck_factors {bottleneck} hold one below 1"
            )
        odd = [factor for factor in growth[1:] if self.growth * factor % 2]
        if odd:
            raise UsageError(
                f"growth {self.growth} times the factor {odd[0]} is odd",
                "an even number at every scale but the finest: half comes from the finer scale",
            )

    @property
    def scales(self) -> int:
        """The number of scales."""
        return len(self.growth_factors)

    @property
    def depths(self) -> tuple[int, ...]:
        """Layers of each increment, the first layer of the network not counted."""
        even = self.stepmode == "even"
        return (
            self.base,
            *(self.step if even else k * self.step + 1 for k in range(1, self.exits)),
        )

    def sites(self) -> tuple[LayerSite, ...]:
        """Where the layers stand, in order of execution."""
        increments = [k for k, depth in enumerate(self.depths, start=1) for _ in range(depth)]
        run = -(-len(increments) // self.scales)
        found, channels = [], self.channels
        for n, increment in enumerate(increments):
            drops = n > 0 and n % run == 0
            channels += self.growth
            if drops:
                channels //= 2
            found.append(LayerSite(increment, n // run, drops, channels))
        return tuple(found)

    def reference(self) -> "MSDNet":
        """The same architecture with the convolutions whose MACs are counted."""
        return dataclasses.replace(self, conv="native")

    def make_first(self, name: str | None = None) -> FirstLayer:
        """The layer that makes all scales of the image."""
        widths = tuple(self.channels * factor for factor in self.growth_factors)
        return FirstLayer(widths, self.stem, self.conv, name=name)

    def make_layer(self, site: LayerSite, name: str | None = None) -> Layer:
        """The layer of one site."""
        factors = self.growth_factors[site.finest :]
        return Layer(
            finest=site.finest + 1,
            growths=tuple(self.growth * factor for factor in factors),
            bottlenecks=self.bottleneck_factors[site.finest - site.drops :],
            transitions=tuple(site.channels * factor for factor in factors) if site.drops else (),
            conv=self.conv,
            name=name,
        )

    def make_increment(self, k: int, name: str | None = None) -> "Increment":
        """What lies between the exits k - 1 and k, counted from 1.

        Raises:
          UsageError: there is no exit k.
        """
        self.check(k)
        return Increment(self, k, name=name)

    def make_exit(self, k: int, name: str | None = None) -> "CoarsestExit":
        """The classifiers behind increment k, counted from 1.

        Raises:
          UsageError: there is no exit k.
        """
        self.check(k)
        return CoarsestExit(self.classes, name=name)

    def module(self) -> ChainModule:
        """The whole network."""
        return ChainModule(self)

    def check(self, k: int) -> None:
        """Raises `UsageError` if there is no exit k."""
        if not 1 <= k <= self.exits:
            raise UsageError(f"exit {k} does not exist", f"exits are 1 to {self.exits}")


class Increment(nn.Module):
    """The layers between two exits; see `MSDNet` and the names above."""

    architecture: MSDNet
    number: int

    @nn.compact
    def __call__(self, x: Array | Features, bn: BNMode) -> Features:
        """Computes one increment.

        Args:
          x: images float (B, H, W, channels) for increment 1, for the others what the one before
            returned.
          bn: `batch` or `running` statistics.

        Returns:
          The maps that later increments read, finest first; the exit reads the last.
        """
        net = self.architecture
        if self.number == 1:
            x = net.make_first(name="first")(cast(Array, x), bn)
        features = cast(Features, x)
        sites = [site for site in net.sites() if site.increment == self.number]
        for i, site in enumerate(sites, start=1):
            features = net.make_layer(site, name=f"layer{i}")(features, bn)
        return features


class CoarsestExit(nn.Module):
    """An `Exit` on the coarsest of an increment's maps, under the exit's own names."""

    classes: tuple[int, ...]

    def setup(self) -> None:
        """The classifiers."""
        self.exit = Exit(self.classes)
        nn.share_scope(self, self.exit)

    def __call__(self, features: Features, bn: BNMode) -> Logits:
        """One float (B, classes) per label level; `bn` is `batch` or `running`."""
        logits: Logits = self.exit(features[-1], bn)
        return logits
