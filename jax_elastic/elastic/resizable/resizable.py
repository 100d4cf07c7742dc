"""A network whose maps can be resized, stage by stage: ``resolution:s1,...,sn``."""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jax_elastic.backbones.chains import AnyChain
from jax_elastic.backbones.parts import Chain
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.abilities import TARGET
from jax_elastic.elastic.family import (
    STATIC_FORMS,
    TRACED_FORMS,
    Array,
    Aux,
    Batch,
    BNMode,
    Carry,
    Draw,
    Prediction,
    PyTree,
    Segment,
    Variables,
    When,
)
from jax_elastic.elastic.plain import classification
from jax_elastic.elastic.resizable import canvas, sampling, switched
from jax_elastic.elastic.resizable.options import Options, make_options
from jax_elastic.elastic.resizable.scales import SCALES, check_leaves_maps, check_ordered
from jax_elastic.elastic.resizable.stretches import ResizeCode, Stretch, check_fits, cut, joined
from jax_elastic.elastic.static import DType, Static
from jax_elastic.errors import UsageError
from jax_elastic.layers import banks, norm
from jax_elastic.subnet import Space, Subnet

AXIS = "resolution"
Places = Literal["stages", "input"]
Traced = Callable[..., tuple[Carry, tuple[PyTree, ...]]]
"""What runs a traced operating point, see `switched.run`."""


@dataclasses.dataclass(frozen=True)
class Resizable(Static):
    """One set of convolutions for every combination of scales, with BN layers for each scale.

    Stage i's map is resized to floor(s_i x its standard side), bilinearly, where the backbone's
    parts say; what it determines, down to the next resize, has the BN layers of that scale.

    Attributes:
      backbone: the network, as a chain of parts.
      scales: what each s_i is chosen from, ascending; the standard is 1.
      side: smaller images are first resized to squares of this side, in pixels.
      places: `stages`, or `input`: only the image is resized, by one scale (an ablation).
      shared_bn: one set of BN layers for all scales (an ablation).
      target: the scales of the one operating point that is to be served, see `Targeted`; empty:
        all are, and the objective `target` draws the fullest.
      averaged: a step's loss is the mean over its operating points, not their sum
        (docs/choices.md R4).
      resizing: implementation of the resize, see `jax_elastic.layers.resize`.
      dtype: see `Static`.
      bn_momentum: see `Static`.

    Raises:
      UsageError: at construction, where scales are none, repeated, out of order or leave no pixel.

    References:
      Resizable networks, section 3.
    """

    backbone: AnyChain = dataclasses.field(default_factory=ResNet)
    scales: tuple[float, ...] = SCALES
    side: int = 32
    places: Places = "stages"
    shared_bn: bool = False
    target: tuple[float, ...] = ()
    averaged: bool = False
    resizing: str = "auto"
    dtype: DType = "float32"
    bn_momentum: float = norm.MOMENTUM

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ordered(self.scales)
        if self.places not in ("stages", "input"):
            raise UsageError(f"places {self.places!r} are unknown", "stages or input")
        if self.side < 1:
            raise UsageError(f"side {self.side} is not positive", "pixels")
        check_leaves_maps(self.scales[0], self._standard, self.side)
        if self.aim is not None:
            self.check(self.aim)

    @property
    def chain(self) -> Chain:
        """The backbone as what is asked of it."""
        return self.backbone

    # Counts and searches ask for thousands of operating points: what they share is made once.

    @cached_property
    def _standard(self) -> tuple[int, ...]:
        """The side of each map that is resized, at scale 1."""
        return (self.side,) if self.places == "input" else self.chain.standard(self.side)

    @cached_property
    def subnets(self) -> Space:
        """``resolution:s1,...,sn``, of n stages (or of the image alone)."""
        return Space(AXIS, (self.scales,) * len(self._standard))

    @property
    def aim(self) -> Subnet | None:
        """See `Targeted`."""
        return Subnet(AXIS, self.target) if self.target else None

    def aimed(self, subnet: Subnet | None) -> "Resizable":
        """See `Targeted`."""
        if subnet is not None:
            self.check(subnet)  # of another axis its values would fit, too
        values = () if subnet is None else subnet.value
        return dataclasses.replace(self, target=tuple(float(value) for value in values))

    @property
    def shown(self) -> tuple[Subnet, ...]:
        """See `Family`: what it is aimed at, where it is."""
        return super().shown if self.aim is None else (self.aim,)

    @property
    def forms(self) -> frozenset[str]:
        """`staged` beside the static ones; those of a canvas where the backbone can."""
        traced = TRACED_FORMS if isinstance(self.backbone, canvas.WRITTEN) else frozenset()
        return STATIC_FORMS | {"staged"} | traced

    @property
    def objectives(self) -> tuple[str, ...]:
        """How the operating points of a step are drawn.

        `target`: one only; `independent`: as many as there are scales, each drawn for itself (an
        ablation); `fair`: as many, in which each scale of each stage comes up once.
        """
        return (TARGET, "independent", "fair")

    @property
    def classes(self) -> tuple[int, ...]:
        """See `Family`."""
        return (self.chain.classes,)

    def reference(self) -> "Resizable":
        """See `Family`."""
        return dataclasses.replace(self, backbone=self.chain.reference(), resizing="gather")

    @cached_property
    def _options(self) -> Options:
        """What can run at each place of the network."""
        parts = self.chain.parts()
        runs = (parts,) if self.places == "input" else cut(parts)
        image = ResizeCode(self.side, self.resizing, self.dtype, self.side)
        return make_options(runs, image, self.scales, self._standard, self.shared_bn)

    def _where(self, subnet: Subnet) -> list[int]:
        """The index of each scale of an operating point."""
        return [int(i) for i in self.subnets.coords(subnet)]

    def stretches(self, subnet: Subnet) -> tuple[tuple[int, Stretch], ...]:
        """The network at one operating point: the side that its map is resized to, and what then.

        Raises:
          UsageError: it does not have that point.
        """
        at = self._options.at(self._where(subnet))
        return tuple((resizing.side, code.stretch) for resizing, code in at)

    def draws(self, rng: np.random.Generator, when: When) -> tuple[Draw, ...]:
        """The operating points of a step, see `objectives`."""
        space = self.subnets
        if when.objective == TARGET:
            return (Draw(self.aim or space.fullest),)
        draw = sampling.fair if when.objective == "fair" else sampling.independent
        rows = draw(rng, len(self.scales), len(space.dims))
        return tuple(Draw(space.at(row)) for row in rows)

    def loss(
        self,
        variables: Variables,
        batch: Batch,
        draw: Draw,
        key: Array,
        objective: str,
        bn: BNMode,
    ) -> tuple[Array, Aux]:
        """Cross-entropy at one operating point; sums `ce` and `top1`, over all of them."""
        if draw.subnet is None:
            return self._traced_loss(canvas.run, variables, batch, draw, key, objective, bn)
        carry: Carry = {"image": batch["image"]}
        found = []
        for segment in self.segments(draw.subnet):
            code: Any = segment.code
            carry, moments = code.train(segment.take(variables), carry, key, bn)
            found.append(moments)
        value, sums = self.score(carry, batch, objective)
        return value, Aux(norm.complete_moments(variables["stats"], joined(found)), sums)

    def switched_loss(
        self,
        variables: Variables,
        batch: Batch,
        draw: Draw,
        key: Array,
        objective: str,
        bn: BNMode,
    ) -> tuple[Array, Aux]:
        """See `Switching`: each stretch switches between its own scales."""
        return self._traced_loss(switched.run, variables, batch, draw, key, objective, bn)

    def _traced_loss(
        self,
        run: Traced,
        variables: Variables,
        batch: Batch,
        draw: Draw,
        key: Array,
        objective: str,
        bn: BNMode,
    ) -> tuple[Array, Aux]:
        assert draw.where is not None
        check_fits(batch["image"], self.side)
        where = self._options.everywhere(draw.where)
        carry, found = run(self._options.columns, where, variables, batch["image"], key, bn)
        value, sums = self.score(carry, batch, objective)
        return value, Aux(norm.complete_moments(variables["stats"], joined(found)), sums)

    def score(
        self, carry: Carry, batch: Batch, objective: str
    ) -> tuple[Array, dict[str, tuple[Array, Array]]]:
        """Cross-entropy, or its part in the mean of the step's draws; sums `ce` and `top1`."""
        (logits,) = carry["logits"]
        value, sums = classification(logits, batch)
        return value / (self._drawn(objective) if self.averaged else 1), sums

    def _drawn(self, objective: str) -> int:
        """How many operating points `draws` gives a step of this objective."""
        return 1 if objective == TARGET else len(self.scales)

    def predict(
        self,
        variables: Variables,
        images: Array,
        subnets: tuple[Subnet, ...],
        budget: Array | float | None,
        key: Array | None = None,
    ) -> tuple[Prediction, ...]:
        """See `Family`: a pass for each."""
        del budget, key
        found = []
        for subnet in subnets:
            carry: Carry = {"image": images}
            for segment in self.segments(subnet):
                carry = segment.code.open(segment.take(variables), carry)
            found.append(Prediction(carry["logits"]))
        return tuple(found)

    def segments(self, subnet: Subnet) -> tuple[Segment, ...]:
        """Resizes and stretches; those of one map and scale are the same at every point.

        A stretch is named for the map that it reads, counted from 1 as the scales of an operating
        point are (0 before the first), and for its scale where that has BN layers of its own.
        """
        return self._options.segments(self._where(subnet))

    def bank_at(self, subnet: Subnet, path: tuple[str, ...]) -> int | None:
        """See `WithBanks`: that of the scale that determines the map which the layer sees."""
        holding = (
            stretch.bank
            for _, stretch in self.stretches(subnet)
            if any(part.holds(path) for part in stretch.parts)
        )
        bank = next(holding, None)
        return None if bank is None else int(bank)

    def _init(self, key: Array, images: Array) -> Any:
        check_fits(images, self.side)
        size, _, _, channels = images.shape
        square = jnp.zeros((size, self.side, self.side, channels))
        fresh = self.backbone.module().init(key, square, "running")
        if self.shared_bn:
            return fresh
        return banks.make_banks(fresh, len(self.scales), self._has_banks)

    def _has_banks(self, path: tuple[str, ...]) -> bool:
        """Whether the BN layer at a path sees a map that a scale determines."""
        return self.bank_at(self.subnets.fullest, path) is not None
