"""What networks under a budget S share: its draws, the loss with L_s, the forward at test."""

import abc
import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jax_elastic.backbones.resnet import ResNet
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
from jax_elastic.elastic.losses import masked_mean, masked_sum
from jax_elastic.elastic.plain import Plain, classification
from jax_elastic.elastic.points import BLOCKS, check_point, with_fixed_blocks
from jax_elastic.elastic.runs import predict_by_segments
from jax_elastic.errors import UsageError
from jax_elastic.subnet import FULL, Subnet

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


class GatedForward(NamedTuple):
    """What a forward with gates gives.

    Attributes:
      logits: (B, classes).
      gates: (N, B), what each block was multiplied by, in [0, 1]. Blocks come first, because the
        network scans over them.
      open: (N, B), logits of the decision to run each block, open iff >= 0.
      moments: of all BN layers.
      weights: (N, B), what blocks that run are multiplied by; None where they are taken whole.
    """

    logits: Array
    gates: Array
    open: Array
    moments: PyTree
    weights: Array | None = None


@dataclasses.dataclass(frozen=True)
class Budgeted(Plain, abc.ABC):
    """A ResNet whose N blocks are gated under a budget S, the share of them to spend.

    Attributes:
      backbone: the architecture.
      s_min: least budget drawn in training.
      s_max: greatest budget drawn in training.
    """

    backbone: ResNet = dataclasses.field(default_factory=ResNet)
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

    def predict(
        self,
        variables: Variables,
        images: Array,
        subnets: tuple[Subnet, ...],
        budget: Array | float | None,
        key: Array | None = None,
    ) -> tuple[Prediction, ...]:
        """See `Family`; the points of `jax_elastic.elastic.points` are run by their segments."""
        if self.random and key is None:
            raise UsageError("the gates of this network are random", "keys (B,), one per image")
        full = None
        if any(subnet in self.subnets for subnet in subnets):
            full = self._predict_full(variables, images, budget, key)
        return tuple(
            full
            if full is not None and subnet in self.subnets
            else predict_by_segments(self, variables, images, subnet, budget, key)
            for subnet in subnets
        )

    def _predict_full(
        self, variables: Variables, images: Array, budget: Array | float | None, key: Array | None
    ) -> Prediction:
        asked = self._asked(budget, key)
        return self.prediction(self.gated_forward(variables, images, asked, "running"))

    def _asked(self, budget: Array | float | None, key: Array | None) -> Asked:
        """What the gates go by at test."""
        if budget is None:
            raise UsageError("this network needs a budget", "a scalar in [0, 1]")
        # Float32 also under x64: 0.6 must be the number that the draws and the engines pass.
        return Asked(jnp.asarray(budget, jnp.float32), self.test_noise(key))

    def moments(
        self,
        variables: Variables,
        images: Array,
        subnet: Subnet,
        budget: Array | float | None,
        key: Array | None = None,
    ) -> PyTree:
        """See `Family`: those under the gates of test, which are not those of training.

        Raises:
          UsageError: the point is one of `jax_elastic.elastic.points`.
        """
        if subnet not in self.subnets:
            full = self.subnets.fullest
            raise UsageError(
                f"operating point {subnet} has no BN statistics of its own",
                f"it reads those of {full}",
                f"recalibrate {full}, at the budget that is meant",
            )
        asked = self._asked(budget, key)
        return self.gated_forward(variables, images, asked, "batch").moments

    def check(self, subnet: Subnet) -> None:
        """See `Family`: `full`, and the points of `jax_elastic.elastic.points`."""
        check_point(subnet, self.subnets, self.backbone.num_blocks)

    def segments(self, subnet: Subnet) -> tuple[Segment, ...]:
        """What decides before the first block, if anything does; stem, blocks and head."""
        found = (*self.plan(), *super().segments(subnet))
        return with_fixed_blocks(found, subnet) if subnet.axis == BLOCKS else found

    def plan(self) -> tuple[Segment, ...]:
        """Segments that add ``plan``, gate logits (B, N), to the carry; none by default."""
        return ()

    def prediction(self, found: GatedForward) -> Prediction:
        """What a forward at test says; every gate is 0 or 1."""
        return Prediction((found.logits,), found.open.T)


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
