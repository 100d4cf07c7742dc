"""A plain network as a family: one operating point, nothing to skip.

It is the baseline of every elastic network, and the first phase of those that grow out of one.
"""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import numpy as np

from jax_elastic.backbones.blocks import ResidualBlock
from jax_elastic.backbones.chains import AnyChain
from jax_elastic.backbones.parts import Part
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.elastic.family import (
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
from jax_elastic.elastic.losses import cross_entropy, hits, masked_mean, masked_sum
from jax_elastic.elastic.segments import Take
from jax_elastic.elastic.static import DType, Static
from jax_elastic.layers import norm
from jax_elastic.subnet import FULL, Subnet


@dataclasses.dataclass(frozen=True)
class StemCode:
    """The stem: ``image`` -> ``x``, in the compute dtype from here on."""

    module: nn.Module
    dtype: DType

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        rest = {name: array for name, array in carry.items() if name != "image"}
        x = self.module.apply(own, carry["image"].astype(self.dtype), "running")
        return {**rest, "x": x}


@dataclasses.dataclass(frozen=True)
class BlockCode:
    """A residual block that always runs: ``x`` -> ``x``."""

    block: ResidualBlock

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        block = cast(nn.Module, self.block)
        x, _ = block.apply(own, carry["x"], None, "running")
        return {**carry, "x": x}


@dataclasses.dataclass(frozen=True)
class HeadCode:
    """The head: ``x`` -> ``logits``."""

    module: nn.Module

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        return {"logits": self.module.apply(own, carry["x"], "running")}


@dataclasses.dataclass(frozen=True)
class PartCode:
    """A part of a chain: ``image`` or ``x`` -> ``x``, or ``logits`` where it is the last."""

    part: Part
    last: bool
    dtype: DType

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        rest = {name: array for name, array in carry.items() if name not in ("image", "x")}
        x = carry["x"] if "x" in carry else carry["image"].astype(self.dtype)
        out, _ = self.part.run(own, x, "running")
        return {"logits": out} if self.last else {**rest, "x": out}


@dataclasses.dataclass(frozen=True)
class Plain(Static):
    """A backbone trained with cross-entropy; its only operating point is `full`.

    Attributes:
      backbone: the architecture. Those of residual blocks are cut block by block, which families
        of gated blocks go on from; the others, chains, part by part.
      dtype: see `Static`.
      bn_momentum: see `Static`.
    """

    backbone: AnyChain | ResNeXt = dataclasses.field(default_factory=ResNet)
    dtype: DType = "float32"
    bn_momentum: float = norm.MOMENTUM

    @property
    def objectives(self) -> tuple[str, ...]:
        """`base`: cross-entropy."""
        return ("base",)

    @property
    def classes(self) -> tuple[int, ...]:
        """See `Family`."""
        return (self.backbone.classes,)

    def reference(self) -> "Plain":
        """See `Family`."""
        return dataclasses.replace(self, backbone=self.backbone.reference())

    def _init(self, key: Array, images: Array) -> Any:
        return self.backbone.module().init(key, images, "running")

    def draws(self, rng: np.random.Generator, when: When) -> tuple[Draw, ...]:
        """One draw of the only operating point."""
        del rng, when
        return (Draw(FULL),)

    def loss(
        self,
        variables: Variables,
        batch: Batch,
        draw: Draw,
        key: Array,
        objective: str,
        bn: BNMode,
    ) -> tuple[Array, Aux]:
        """Cross-entropy; sums `ce` and `top1`."""
        del draw, objective
        logits, moments = self._run(variables, batch["image"], bn, key)
        value, sums = classification(logits, batch)
        return value, Aux(moments, sums)

    def _run(
        self, variables: Variables, images: Array, bn: BNMode, key: Array | None = None
    ) -> tuple[Array, PyTree]:
        """Logits and BN moments; a key is of the dropout that the backbone may have."""
        if isinstance(self.backbone, ResNet | ResNeXt):
            logits, _, moments = self.forward(self.backbone.module(), variables, images, bn)
            return logits, moments
        (logits,), sown = self.backbone.module().apply(
            cast(dict[str, PyTree], variables),
            images.astype(self.dtype),
            bn,
            mutable=["moments"],
            rngs=None if key is None else {"dropout": key},
        )
        return logits, norm.complete_moments(variables["stats"], sown.get("moments"))

    def forward(
        self,
        module: nn.Module,
        variables: Variables,
        images: Array,
        bn: BNMode,
        per_block: PyTree = None,
    ) -> tuple[Array, PyTree, PyTree]:
        """Runs a network of residual blocks: logits, what its blocks gave, and all BN moments."""
        ((logits,), outs), sown = module.apply(
            cast(dict[str, PyTree], variables),
            images.astype(self.dtype),
            bn,
            per_block,
            mutable=["moments"],
        )
        return logits, outs, norm.complete_moments(variables["stats"], sown.get("moments"))

    def predict(
        self,
        variables: Variables,
        images: Array,
        subnets: tuple[Subnet, ...],
        budget: Array | float | None,
        key: Array | None = None,
    ) -> tuple[Prediction, ...]:
        """See `Family`."""
        del budget, key
        logits, _ = self._run(variables, images, "running")
        return tuple(Prediction((logits,)) for _ in subnets)

    def segments(self, subnet: Subnet) -> tuple[Segment, ...]:
        """Stem, blocks and head; or the parts of a chain."""
        self.check(subnet)
        if not isinstance(self.backbone, ResNet | ResNeXt):
            return part_segments(self.backbone.parts(), self.dtype)
        blocks = [self.block_segment(n) for n in range(self.backbone.num_blocks)]
        head = Segment("head", HeadCode(self.backbone.make_head()), Take(("head",)))
        return (self.stem_segment(), *blocks, head)

    def stem_segment(self) -> Segment:
        """The segment before residual blocks."""
        assert isinstance(self.backbone, ResNet | ResNeXt)
        return Segment("stem", StemCode(self.backbone.make_stem(), self.dtype), Take(("stem",)))

    def block_segment(self, n: int) -> Segment:
        """The segment of residual block n, counted from 0."""
        assert isinstance(self.backbone, ResNet | ResNeXt)
        site = self.backbone.sites()[n]
        code = BlockCode(self.backbone.make_block(site))
        return Segment(f"block{n + 1}", code, Take(site.path, site.index))


def part_segments(parts: tuple[Part, ...], dtype: DType) -> tuple[Segment, ...]:
    """A segment for each part of a chain, named for the first of what it reads."""
    return tuple(
        Segment(
            "/".join((*part.path, *(part.reads or ())[:1])),
            PartCode(part, part is parts[-1], dtype),
            part.take,
        )
        for part in parts
    )


def classification(
    logits: Array, batch: Batch, level: int = 0
) -> tuple[Array, dict[str, tuple[Array, Array]]]:
    """Mean cross-entropy of a label level, and the sums `ce` and `top1`."""
    targets, mask = batch["targets"][level], batch["mask"]
    ce = cross_entropy(logits, targets)
    sums = {
        "ce": masked_sum(ce, mask),
        "top1": masked_sum(hits(logits, targets).astype(ce.dtype), mask),
    }
    return masked_mean(ce, mask), sums
