"""What networks under a budget S share: its draws, the loss with L_s, the forward at test."""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax_elastic.elastic.dropping import Dropping, GatedForward
from jax_elastic.elastic.family import (
    Array,
    Aux,
    Batch,
    BNMode,
    Draw,
    PyTree,
    Variables,
    When,
)
from jax_elastic.elastic.losses import masked_mean, masked_sum
from jax_elastic.elastic.plain import classification
from jax_elastic.errors import UsageError
from jax_elastic.subnet import FULL

BUDGETS = tuple(round(0.1 * i, 1) for i in range(1, 11))


class Asked(NamedTuple):
    """What the gates of a forward go by.

    Attributes:
      budget: S, float32 () or (B,).
      noise: what they drew, a pytree of the network's own.
      objective: of the phase; at test `gated`.
    """

    budget: Array
    noise: PyTree
    objective: str = "gated"


@dataclasses.dataclass(frozen=True)
class Budgeted(Dropping, abc.ABC):
    """A ResNet whose N blocks are gated under a budget S, the share of them to spend.

    Attributes:
      s_min: least budget drawn in training.
      s_max: greatest budget drawn in training.
    """

    s_min: float = 0.2
    s_max: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.s_min <= self.s_max <= 1:
            raise UsageError(
                f"budgets from s_min {self.s_min:g} to s_max {self.s_max:g} are no range",
                "0 <= s_min <= s_max <= 1",
            )

    @property
    def objectives(self) -> tuple[str, ...]:
        """`base`: cross-entropy without gates. `gated`: with gates, and with L_s if it has one."""
        return ("base", "gated")

    @property
    def budgets(self) -> tuple[float, ...]:
        """0.1, 0.2, ..., 1: what the paper's range asks, and below."""
        return BUDGETS

    @property
    def scale_weight(self) -> float:
        """Weight of the scale loss L_s; 0 where the usage is set by other means."""
        return 0.0

    def draws(self, rng: np.random.Generator, when: When) -> tuple[Draw, ...]:
        """One budget S ~ U(s_min, s_max) per step (docs/choices.md U11)."""
        if when.objective == "base":
            return super().draws(rng, when)
        return (budget_draw(rng.uniform(self.s_min, self.s_max)),)

    @abc.abstractmethod
    def train_noise(self, key: Array, size: int) -> PyTree:
        """What the gates of a training step draw, for a batch of `size` images."""

    @abc.abstractmethod
    def test_noise(self, key: Array | None) -> PyTree:
        """What they have in its place at test; `key` (B,), one per image, if `random`."""

    @abc.abstractmethod
    def gated_forward(
        self, variables: Variables, images: Array, asked: Asked, bn: BNMode
    ) -> GatedForward:
        """The masked forward of images (B, H, W, C), in training or at test."""

    def loss(
        self,
        variables: Variables,
        batch: Batch,
        draw: Draw,
        key: Array,
        objective: str,
        bn: BNMode,
    ) -> tuple[Array, Aux]:
        """Cross-entropy + scale_weight x scale loss; sums also `usage` (share of open blocks)."""
        if objective == "base":
            return super().loss(variables, batch, draw, key, objective, bn)
        images, mask = batch["image"], batch["mask"]
        budget = draw.values["budget"]
        asked = Asked(budget, self.train_noise(key, len(images)), objective)
        found = self.gated_forward(variables, images, asked, bn)
        value, sums = classification(found.logits, batch)
        scale = scale_loss(found.gates.T, budget)
        opened = (found.open >= 0).mean(0, dtype=scale.dtype)
        sums["scale_loss"] = masked_sum(scale, mask)
        sums["usage"] = masked_sum(opened, mask)
        sums["budget"] = masked_sum(jnp.full_like(opened, budget), mask)
        return value + self.scale_weight * masked_mean(scale, mask), Aux(found.moments, sums)

    def test_forward(
        self,
        variables: Variables,
        images: Array,
        budget: Array | float | None,
        key: Array | None,
        bn: BNMode,
    ) -> GatedForward:
        """See `Dropping`."""
        return self.gated_forward(variables, images, self._asked(budget, key), bn)

    def _asked(self, budget: Array | float | None, key: Array | None) -> Asked:
        """What the gates go by at test."""
        if budget is None:
            raise UsageError("this network needs a budget", "a scalar in [0, 1]")
        # Float32 also under x64: 0.6 must be the number that the draws and the engines pass.
        return Asked(jnp.asarray(budget, jnp.float32), self.test_noise(key))


def budget_draw(budget: Any) -> Draw:
    """The draw of one budget for the fullest operating point, as the scalar that `loss` reads."""
    return Draw(FULL, values={"budget": np.float32(budget)})


def scale_loss(gates: Array, budget: Array | float) -> Array:
    """How far each image's usage is from the budget: ((1/N) sum_n g_n - S)^2.

    Args:
      gates: (B, N), in [0, 1].
      budget: S, ().

    Returns:
      (B,).

    References:
      URNet section 3.3; per image, docs/choices.md U7.
    """
    return jnp.square(gates.mean(-1) - budget)
