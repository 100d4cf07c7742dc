"""The conditional gating module (CGM), the blocks that carry it, and networks made of them."""

import abc
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BasicBlock, BlockKind, Bottleneck
from jax_elastic.elastic.budgeted import Asked, Budgeted
from jax_elastic.elastic.dropping import GatedForward
from jax_elastic.elastic.family import Array, BNMode, Carry, Code, PyTree, Segment, Variables
from jax_elastic.elastic.gated import GatedBlock, GatedBlockCode
from jax_elastic.elastic.segments import Take
from jax_elastic.errors import UsageError
from jax_elastic.gates import sigmoid_or_step


class ConditionalGate(nn.Module):
    """The conditional gating module: w2 . relu(W1 [GAP(x); S 1_C] + b1) + b2.

    Attributes:
      reduction: r; the hidden layer has C // r units (at least one).

    References:
      URNet section 3.2 (CGM); the exact stack is docs/choices.md U1.
    """

    reduction: int

    @nn.compact
    def __call__(self, pooled: Array, budget: Array) -> Array:
        """GAP of x, (B, C) of at least float32, budget () or (B,) -> logits (B,)."""
        column = jnp.asarray(budget, pooled.dtype)[..., None]
        seen = jnp.concatenate([pooled, jnp.broadcast_to(column, pooled.shape)], -1)
        units = max(1, pooled.shape[-1] // self.reduction)
        hidden = nn.relu(nn.Dense(units, name="hidden")(seen))
        return nn.Dense(1, name="logit")(hidden)[:, 0]


def pool(x: Array) -> Array:
    """GAP: (B, H, W, C) of any float dtype -> (B, C), at least float32."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))


class ConditionalBlock(GatedBlock):
    """A residual block with its conditional gate.

    Attributes:
      reduction: r of the gate.
    """

    reduction: int = 2

    def setup(self) -> None:
        """The block's layers and its gate."""
        super().setup()
        self.gate = ConditionalGate(self.reduction)

    def gate_logits(self, x: Array, budget: Array) -> Array:
        """The gate's logits: x (B, H, W, C), budget () or (B,) -> (B,)."""
        return self.pooled_gate_logits(pool(x), budget)

    def pooled_gate_logits(self, pooled: Array, budget: Array) -> Array:
        """The same from the GAP of x, (B, C)."""
        logits: Array = self.gate(pooled, budget)
        return logits

    def weighted(self, x: Array, budget: Array) -> Array:
        """The block with its gate at the sigmoid, with running statistics."""
        return self.gated(x, nn.sigmoid(self.gate_logits(x, budget)), "running")

    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, PyTree]:
        """The block under its gate.

        Args:
          x: (B, H, W, C).
          per_block: ``{"budget": () or (B,), "soft": bool ()}``; soft takes the sigmoid, else the
            step.
          bn: `batch` or `running` statistics.

        Returns:
          The output, and ``{"logits": (B,), "gates": (B,)}``.
        """
        logits = self.gate_logits(x, per_block["budget"])
        gates = sigmoid_or_step(logits, per_block["soft"])
        return self.gated(x, gates, bn), {"logits": logits, "gates": gates}


class ConditionalBasicBlock(ConditionalBlock, BasicBlock):
    """A basic block with its conditional gate."""


class ConditionalBottleneck(ConditionalBlock, Bottleneck):
    """A bottleneck with its conditional gate."""


CONDITIONAL_BLOCKS: dict[BlockKind, type[ConditionalBlock]] = {
    "basic": ConditionalBasicBlock,
    "bottleneck": ConditionalBottleneck,
}
"""The blocks with conditional gates by kind."""


@dataclasses.dataclass(frozen=True)
class PooledCode:
    """A segment that also hands on what the first gate after it sees: ``x`` -> ``x, pooled``."""

    code: Code

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        carry = self.code.open(own, carry)
        return {**carry, "pooled": pool(carry["x"])}


@dataclasses.dataclass(frozen=True)
class ConditionalBlockCode(GatedBlockCode):
    """A block with a gate of its own as a segment: ``x, pooled`` -> ``x, pooled``.

    Pooling belongs to what made x, so that an image that takes an identity shortcut is not read at
    all: its GAP is still the one that it had.
    """

    block: ConditionalBlock

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        x = cast(Array, self.block.apply(own, carry["x"], method="open"))
        return {**carry, "x": x, "pooled": pool(x)}

    def skip(self, own: PyTree, carry: Carry) -> Carry:
        """See `GatedCode`."""
        x = cast(Array, self.block.apply(own, carry["x"], method="skip"))
        return carry if x is carry["x"] else {**carry, "x": x, "pooled": pool(x)}

    def gate(self, own: PyTree, carry: Carry, budget: Array | None) -> Array:
        """See `GatedCode`."""
        found = self.block.apply(own, carry["pooled"], budget, method="pooled_gate_logits")
        return cast(Array, found)


@dataclasses.dataclass(frozen=True)
class Conditional(Budgeted, abc.ABC):
    """A ResNet with a conditional gate per block.

    Attributes:
      reduction: r of the gates (2 for CIFAR, 16 for ImageNet).
    """

    reduction: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reduction < 1:
            raise UsageError(f"reduction {self.reduction} is not positive", "1 or more")

    @property
    def kind(self) -> Callable[..., ConditionalBlock]:
        """Makes a block."""
        return partial(CONDITIONAL_BLOCKS[self.backbone.block], reduction=self.reduction)

    def _init(self, key: Array, images: Array) -> Any:
        soft = jnp.zeros(self.backbone.num_blocks, bool)
        rows = {"budget": self.per_block_budget(jnp.float32(1)), "soft": soft}
        return self.backbone.module(self.kind).init(key, images, "running", rows)

    def per_block_budget(self, budget: Array) -> Array:
        """The budget, () or (B,), once for each block: (N,) or (N, B)."""
        return jnp.broadcast_to(budget, (self.backbone.num_blocks, *jnp.shape(budget)))

    def gated_forward(
        self, variables: Variables, images: Array, asked: Asked, bn: BNMode
    ) -> GatedForward:
        """See `Budgeted`; `asked.noise` is bool (N,), which gates are their sigmoid."""
        module = self.backbone.module(self.kind)
        rows = {"budget": self.per_block_budget(asked.budget), "soft": asked.noise}
        logits, outs, moments = self.forward(module, variables, images, bn, rows)
        return GatedForward(logits, outs["gates"], outs["logits"], moments)

    def stem_segment(self) -> Segment:
        """See `Plain`."""
        stem = super().stem_segment()
        return dataclasses.replace(stem, code=PooledCode(stem.code))

    def block_segment(self, n: int) -> Segment:
        """See `Plain`; every block is gated, first blocks of stages too."""
        site = self.backbone.sites()[n]
        code = ConditionalBlockCode(self.backbone.make_block_of(self.kind, site))
        return Segment(f"block{n + 1}", code, Take(site.path, site.index), "gated")
