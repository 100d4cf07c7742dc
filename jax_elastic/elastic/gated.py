"""Residual blocks that a gate can close, for every family that drops blocks per image.

A gate is either a block's own, decided when the image arrives there, or one of a plan: a `plan`
segment decides all gates before the first block.
"""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BasicBlock, BlockKind, Bottleneck, ResidualBlock
from jax_elastic.elastic.family import Array, BNMode, Carry, PyTree, Variables
from jax_elastic.elastic.segments import Take
from jax_elastic.gates import gate_mul


class GatedBlock(nn.Module):
    """Two ways through a residual block: open, and the shortcut alone.

    Mixed into a kind of block, which comes after it among the bases.
    """

    def gated(self: ResidualBlock, x: Array, gates: Array, bn: BNMode) -> Array:
        """ReLU(shortcut(x) + g F(x)): x (B, H, W, C), gates (B,) -> (B, H', W', C')."""
        return nn.relu(self.shortcut(x, bn) + gate_mul(gates, self.residual(x, bn)))

    def open(self: ResidualBlock, x: Array) -> Array:
        """The block with its gate at 1, with running statistics."""
        return nn.relu(self.shortcut(x, "running") + self.residual(x, "running"))

    def skip(self: ResidualBlock, x: Array) -> Array:
        """The block with its gate at 0: x (B, H, W, C) is what a ReLU gave.

        Where the shortcut is the identity, x itself is handed on: another ReLU changes nothing,
        and engines see that there is nothing to compute.
        """
        shortcut = self.shortcut(x, "running")
        return x if shortcut is x else nn.relu(shortcut)


class PlannedBlock(GatedBlock):
    """A residual block whose gate was decided before."""

    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, None]:
        """The block under its gate: `per_block` is gates (B,); gives nothing to stack."""
        return self.gated(x, per_block, bn), None


class PlannedBasicBlock(PlannedBlock, BasicBlock):
    """A basic block whose gate was decided before."""


class PlannedBottleneck(PlannedBlock, Bottleneck):
    """A bottleneck whose gate was decided before."""


PLANNED_BLOCKS: dict[BlockKind, type[PlannedBlock]] = {
    "basic": PlannedBasicBlock,
    "bottleneck": PlannedBottleneck,
}
"""The planned blocks by kind."""


@dataclasses.dataclass(frozen=True)
class GatedBlockCode:
    """What the codes of blocks share: how they look where they are fixed, see `FixableCode`."""

    block: GatedBlock

    @property
    def idle(self) -> bool:
        """Only the first block of a stage changes the map on its shortcut."""
        return not cast(Any, self.block).first

    def reads(self, module: str, opened: bool) -> bool:
        """Closed, a block has its projection alone; open, all but its gate."""
        return module != "gate" if opened else module in ("projection", "bn_projection")


@dataclasses.dataclass(frozen=True)
class PlannedBlockCode(GatedBlockCode):
    """A block under a plan as a segment: ``x, plan`` -> ``x``; ``plan`` is gate logits (B, N)."""

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        return {**carry, "x": self.block.apply(arrays_of(own), carry["x"], method="open")}

    def skip(self, own: PyTree, carry: Carry) -> Carry:
        """See `GatedCode`."""
        return {**carry, "x": self.block.apply(arrays_of(own), carry["x"], method="skip")}

    def gate(self, own: PyTree, carry: Carry, budget: Array | None) -> Array:
        """See `GatedCode`: the plan's column of this block."""
        del budget
        return jnp.take(carry["plan"], own["column"], axis=1)


@dataclasses.dataclass(frozen=True)
class TakePlanned:
    """Cuts out a block and says which column of the plan is its gate."""

    arrays: Take
    column: int

    def __call__(self, variables: Variables) -> PyTree:
        """The block's ``{"params", "stats", "column": int32 ()}``."""
        return {**self.arrays(variables), "column": jnp.int32(self.column)}


def arrays_of(own: dict[str, Any]) -> dict[str, Any]:
    """What Flax knows of a planned block's own."""
    return {name: tree for name, tree in own.items() if name != "column"}
