"""The gate-activation that URNet and External share: sigmoid with probability p, else the step."""

import abc
import dataclasses

import jax.numpy as jnp

from jax_elastic.elastic.budgeted import Budgeted
from jax_elastic.elastic.family import Array
from jax_elastic.errors import UsageError
from jax_elastic.gates import draw_soft


@dataclasses.dataclass(frozen=True)
class Sampled(Budgeted, abc.ABC):
    """Networks whose gates are sampled in training and pulled to the budget by the scale loss.

    Attributes:
      p: probability that a gate is its sigmoid in training; otherwise the hard step.
      beta: weight of the scale loss.
    """

    p: float = 0.1
    beta: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.p <= 1:
            raise UsageError(f"p {self.p:g} is not a probability", "in [0, 1]")
        if not 0 <= self.beta < float("inf"):
            raise UsageError(f"beta {self.beta:g} is not a weight", "0 or more, and finite")

    @property
    def scale_weight(self) -> float:
        """Its `beta`."""
        return self.beta

    def train_noise(self, key: Array, size: int) -> Array:
        """Which are soft, bool (N,): a draw per gate, shared by the batch (docs/choices.md U2)."""
        del size
        return draw_soft(key, self.p, (self.backbone.num_blocks,))

    def test_noise(self, key: Array | None) -> Array:
        """None is soft: every gate is its hard step."""
        del key
        return jnp.zeros(self.backbone.num_blocks, bool)
