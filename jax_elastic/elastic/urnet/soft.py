"""Block attention (B/A): every block runs and is weighted by its gate's sigmoid, at test too."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BasicBlock, BlockKind, Bottleneck
from jax_elastic.elastic.budgeted import Asked
from jax_elastic.elastic.dropping import GatedForward
from jax_elastic.elastic.family import (
    Array,
    BNMode,
    Carry,
    Prediction,
    PyTree,
    Segment,
    Variables,
)
from jax_elastic.elastic.gated import PlannedBlockCode, TakePlanned, arrays_of
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.segments import Take
from jax_elastic.elastic.urnet.conditional import Conditional, ConditionalBlock
from jax_elastic.elastic.urnet.random_drop import RandomDrop, keep_logits
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.subnet import Subnet


@dataclasses.dataclass(frozen=True)
class WeightedBlockCode:
    """A block that always runs, weighted by its conditional gate: ``x, budget`` -> ``x``."""

    block: ConditionalBlock

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        x = self.block.apply(own, carry["x"], carry["budget"], method="weighted")
        return {**carry, "x": x}


@dataclasses.dataclass(frozen=True)
class URNetSoft(URNet):
    """The paper's ResNet + B/A: URNet with p = 1, evaluated with its sigmoids.

    Its training is that of `URNet(p=1)`, the paper's SG, which it becomes if its gates are
    rounded (docs/choices.md U21). Nothing can be skipped.
    """

    p: float = 1.0

    def check(self, subnet: Subnet) -> None:
        """See `Family`: every block always runs, so there is one operating point."""
        self.subnets.check(subnet)

    def test_noise(self, key: Array | None) -> Array:
        """All are soft."""
        del key
        return jnp.ones(self.backbone.num_blocks, bool)

    def prediction(self, found: GatedForward) -> Prediction:
        """The gates are weights: they decide nothing."""
        return Prediction((found.logits,), weights=found.gates.T)

    def stem_segment(self) -> Segment:
        """See `Plain`; the gates see x itself."""
        return Plain.stem_segment(self)

    def block_segment(self, n: int) -> Segment:
        """See `Plain`; every block always runs."""
        site = self.backbone.sites()[n]
        code = WeightedBlockCode(self.backbone.make_block_of(self.kind, site))
        return Segment(f"block{n + 1}", code, Take(site.path, site.index))


class DroppedBlock(ConditionalBlock):
    """A residual block weighted by its conditional gate's sigmoid, unless it is dropped."""

    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, PyTree]:
        """As `ConditionalBlock`; `per_block` is ``{"budget": () or (B,), "keep": (B,)}``."""
        weights = jax.nn.sigmoid(self.gate_logits(x, per_block["budget"]))
        return self.gated(x, weights * per_block["keep"], bn), weights


class DroppedBasicBlock(DroppedBlock, BasicBlock):
    """A basic block weighted by its gate, unless it is dropped."""


class DroppedBottleneck(DroppedBlock, Bottleneck):
    """A bottleneck weighted by its gate, unless it is dropped."""


DROPPED_BLOCKS: dict[BlockKind, type[DroppedBlock]] = {
    "basic": DroppedBasicBlock,
    "bottleneck": DroppedBottleneck,
}
"""The dropped blocks by kind."""


@dataclasses.dataclass(frozen=True)
class DroppedBlockCode(PlannedBlockCode):
    """A dropped block as a segment: ``x, plan, budget`` -> ``x``."""

    def reads(self, module: str, opened: bool) -> bool:
        """See `FixableCode`: open, its gate weights it."""
        return opened or super().reads(module, opened)

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        x = self.block.apply(arrays_of(own), carry["x"], carry["budget"], method="weighted")
        return {**carry, "x": x}


@dataclasses.dataclass(frozen=True)
class SoftDrop(Conditional, RandomDrop):
    """The paper's B/A "rand train/val": sigmoid weights, and blocks dropped at random.

    S is the keep probability and stays the gates' input; there is no scale loss, because the
    drop sets the usage (docs/choices.md U22).
    """

    @property
    def kind(self) -> Callable[..., DroppedBlock]:
        """Makes a block."""
        return partial(DROPPED_BLOCKS[self.backbone.block], reduction=self.reduction)

    def _init(self, key: Array, images: Array) -> Any:
        keep = jnp.ones((self.backbone.num_blocks, 1))
        rows = {"budget": self.per_block_budget(jnp.float32(1)), "keep": keep}
        return self.backbone.module(self.kind).init(key, images, "running", rows)

    def gated_forward(
        self, variables: Variables, images: Array, asked: Asked, bn: BNMode
    ) -> GatedForward:
        """See `Budgeted`; `asked.noise` is uniforms (B, N)."""
        opened = keep_logits(asked.noise, asked.budget).T
        keep = (opened >= 0).astype(opened.dtype)
        rows = {"budget": self.per_block_budget(asked.budget), "keep": keep}
        module = self.backbone.module(self.kind)
        logits, weights, moments = self.forward(module, variables, images, bn, rows)
        return GatedForward(logits, weights * keep, opened, moments, weights)

    def prediction(self, found: GatedForward) -> Prediction:
        """Which blocks were kept, and the weights of all."""
        assert found.weights is not None
        return Prediction((found.logits,), found.open.T, weights=found.weights.T)

    def stem_segment(self) -> Segment:
        """See `Plain`; the gates see x itself."""
        return Plain.stem_segment(self)

    def block_segment(self, n: int) -> Segment:
        """See `Plain`; every block is gated by its column of the plan."""
        site = self.backbone.sites()[n]
        code = DroppedBlockCode(self.backbone.make_block_of(self.kind, site))
        take = TakePlanned(Take(site.path, site.index), n)
        return Segment(f"block{n + 1}", code, take, "gated")
