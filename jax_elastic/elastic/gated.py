"""Residual blocks that a gate can close, for every family that drops blocks per image."""

import dataclasses
from typing import cast

import flax.linen as nn

from jax_elastic.backbones.blocks import ResidualBlock
from jax_elastic.elastic.family import Array, BNMode, Carry, PyTree
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
        """The block with its gate at 0."""
        return nn.relu(self.shortcut(x, "running"))


@dataclasses.dataclass(frozen=True)
class GatedBlockCode:
    """A gated block as a segment: ``x`` -> ``x``.

    Attributes:
      block: has a method `gate_logits(x, budget)`, because its gate sees both.
    """

    block: GatedBlock

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        return {**carry, "x": self.block.apply(own, carry["x"], method="open")}

    def skip(self, own: PyTree, carry: Carry) -> Carry:
        """See `GatedCode`."""
        return {**carry, "x": self.block.apply(own, carry["x"], method="skip")}

    def gate(self, own: PyTree, carry: Carry, budget: Array | None) -> Array:
        """See `GatedCode`."""
        return cast(Array, self.block.apply(own, carry["x"], budget, method="gate_logits"))
