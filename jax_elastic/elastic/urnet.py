"""URNet: a gate per residual block, conditioned on the image and on the user's budget S.

References:
  URNet: User-Resizable Residual Networks with Conditional Gating Module (AAAI 2020);
  SPEC section 2. Choices where the paper is silent are marked there with [C].
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jax_elastic.backbones.blocks import BasicBlock, BlockKind, Bottleneck
from jax_elastic.elastic.family import (
    Array,
    Aux,
    Batch,
    BNMode,
    Draw,
    Prediction,
    PyTree,
    Segment,
    Variables,
    When,
)
from jax_elastic.elastic.gated import GatedBlock, GatedBlockCode
from jax_elastic.elastic.losses import masked_mean, masked_sum
from jax_elastic.elastic.plain import Plain, classification
from jax_elastic.elastic.segments import Take
from jax_elastic.errors import UsageError
from jax_elastic.gates import draw_soft, sigmoid_or_step
from jax_elastic.subnet import FULL, Subnet


class ConditionalGate(nn.Module):
    """The conditional gating module: w2 . relu(W1 [GAP(x); S 1_C] + b1) + b2.

    Attributes:
      reduction: r; the hidden layer has C // r units (at least one).

    References:
      URNet section 3.2 (CGM); the exact stack is SPEC section 2 and table row U1.
    """

    reduction: int

    @nn.compact
    def __call__(self, x: Array, budget: Array) -> Array:
        """X (B, H, W, C) of any float dtype, budget () -> logits (B,), at least float32."""
        pooled = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
        budgets = jnp.broadcast_to(jnp.asarray(budget, pooled.dtype), pooled.shape)
        seen = jnp.concatenate([pooled, budgets], -1)
        units = max(1, x.shape[-1] // self.reduction)
        hidden = nn.relu(nn.Dense(units, name="hidden")(seen))
        return nn.Dense(1, name="logit")(hidden)[:, 0]


class URNetBlock(GatedBlock):
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
        """The gate's logits: x (B, H, W, C), budget () -> (B,)."""
        logits: Array = self.gate(x, budget)
        return logits

    def __call__(self, x: Array, per_block: PyTree, bn: BNMode) -> tuple[Array, PyTree]:
        """The block under its gate.

        Args:
          x: (B, H, W, C).
          per_block: ``{"budget": (), "soft": bool ()}``; soft takes the sigmoid, else the step.
          bn: `batch` or `running` statistics.

        Returns:
          The output, and ``{"logits": (B,), "gates": (B,)}``.
        """
        logits = self.gate_logits(x, per_block["budget"])
        gates = sigmoid_or_step(logits, per_block["soft"])
        return self.gated(x, gates, bn), {"logits": logits, "gates": gates}


class URNetBasicBlock(URNetBlock, BasicBlock):
    """A basic block with its conditional gate."""


class URNetBottleneck(URNetBlock, Bottleneck):
    """A bottleneck with its conditional gate."""


BLOCKS: dict[BlockKind, Callable[..., URNetBlock]] = {
    "basic": URNetBasicBlock,
    "bottleneck": URNetBottleneck,
}
"""The gated blocks by kind."""


@dataclasses.dataclass(frozen=True)
class URNet(Plain):
    """A ResNet with a conditional gate per block.

    Attributes:
      reduction: r of the gates (2 for CIFAR, 16 for ImageNet).
      p: probability that a gate is its sigmoid in training; otherwise the hard step.
      beta: weight of the scale loss.
      s_min: least budget drawn in training.
      s_max: greatest budget drawn in training.
    """

    reduction: int = 2
    p: float = 0.1
    beta: float = 2.0
    s_min: float = 0.2
    s_max: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.p <= 1:
            raise UsageError(f"p {self.p:g} is not a probability", "in [0, 1]")
        if not 0 <= self.beta < math.inf:
            raise UsageError(f"beta {self.beta:g} is not a weight", "0 or more, and finite")
        if self.reduction < 1:
            raise UsageError(f"reduction {self.reduction} is not positive", "1 or more")
        if not 0 <= self.s_min <= self.s_max <= 1:
            raise UsageError(
                f"budgets from s_min {self.s_min:g} to s_max {self.s_max:g} are no range",
                "0 <= s_min <= s_max <= 1",
            )

    @property
    def objectives(self) -> tuple[str, ...]:
        """`base`: cross-entropy without gates. `gated`: with gates and the scale loss."""
        return ("base", "gated")

    @property
    def budgets(self) -> tuple[float, ...]:
        """0.1, 0.2, ..., 1: what the paper's range asks, and below."""
        return tuple(round(0.1 * i, 1) for i in range(1, 11))

    def _init(self, key: Array, images: Array) -> Any:
        rows = self._per_block(jnp.float32(1), jnp.zeros(self.backbone.num_blocks, bool))
        return self._gated_module().init(key, images, "running", rows)

    def _gated_module(self) -> Any:
        return self.backbone.module(self._block)

    @property
    def _block(self) -> Callable[..., URNetBlock]:
        return partial(BLOCKS[self.backbone.block], reduction=self.reduction)

    def _per_block(self, budget: Array | float, soft: Array) -> PyTree:
        # Float32 also under x64: 0.6 must be the number that the draws and the engines pass.
        rows = jnp.broadcast_to(jnp.asarray(budget, jnp.float32), soft.shape)
        return {"budget": rows, "soft": soft}

    def draws(self, rng: np.random.Generator, when: When) -> tuple[Draw, ...]:
        """One budget S ~ U(s_min, s_max) per step (SPEC section 2)."""
        if when.objective == "base":
            return super().draws(rng, when)
        budget = np.float32(rng.uniform(self.s_min, self.s_max))
        return (Draw(FULL, values={"budget": budget}),)

    def loss(
        self,
        variables: Variables,
        batch: Batch,
        draw: Draw,
        key: Array,
        objective: str,
        bn: BNMode,
    ) -> tuple[Array, Aux]:
        """Cross-entropy + beta x scale loss; sums also `usage` (share of open blocks)."""
        if objective == "base":
            return super().loss(variables, batch, draw, key, objective, bn)
        budget = draw.values["budget"]
        soft = draw_soft(key, self.p, (self.backbone.num_blocks,))
        logits, outs, moments = self.forward(
            self._gated_module(), variables, batch["image"], bn, self._per_block(budget, soft)
        )
        value, sums = classification(logits, batch)
        scale = scale_loss(outs["gates"].T, budget)
        opened = (outs["logits"] >= 0).mean(0, dtype=scale.dtype)
        sums["scale_loss"] = masked_sum(scale, batch["mask"])
        sums["usage"] = masked_sum(opened, batch["mask"])
        sums["budget"] = masked_sum(jnp.full_like(opened, budget), batch["mask"])
        return value + self.beta * masked_mean(scale, batch["mask"]), Aux(moments, sums)

    def predict(
        self,
        variables: Variables,
        images: Array,
        subnets: tuple[Subnet, ...],
        budget: Array | float | None,
        key: Array | None = None,
    ) -> tuple[Prediction, ...]:
        """See `Family`; every gate is its hard step."""
        del key
        if budget is None:
            raise UsageError("URNet needs a budget", "a scalar in [0, 1]")
        hard = jnp.zeros(self.backbone.num_blocks, bool)
        logits, outs, _ = self.forward(
            self._gated_module(), variables, images, "running", self._per_block(budget, hard)
        )
        return tuple(Prediction((logits,), outs["logits"].T) for _ in subnets)

    def block_segment(self, n: int) -> Segment:
        """See `Plain`; every block is gated, first blocks of stages too."""
        site = self.backbone.sites()[n]
        code = GatedBlockCode(self.backbone.make_block(site, self._block))
        return Segment(f"block{n + 1}", code, Take(site.path, site.index), "gated")


def scale_loss(gates: Array, budget: Array | float) -> Array:
    """How far each image's usage is from the budget: ((1/N) sum_n g_n - S)^2.

    Args:
      gates: (B, N), in [0, 1].
      budget: S, ().

    Returns:
      (B,).

    References:
      URNet section 3.3; per sample, SPEC table row U7.
    """
    return jnp.square(gates.mean(-1) - budget)
