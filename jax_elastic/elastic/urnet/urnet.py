"""URNet: each gate is its sigmoid with probability p in training, its step otherwise."""

import dataclasses

import jax.numpy as jnp

from jax_elastic.elastic.budgeted import check_gates
from jax_elastic.elastic.family import Array
from jax_elastic.elastic.urnet.conditional import Conditional
from jax_elastic.gates import draw_soft


@dataclasses.dataclass(frozen=True)
class URNet(Conditional):
    """A ResNet with a conditional gate per block (URNet section 3).

    p = 1 is the paper's SG and p = 0 its BG (table 1).

    Attributes:
      p: probability that a gate is its sigmoid in training; otherwise the hard step.
      beta: weight of the scale loss.
    """

    p: float = 0.1
    beta: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_gates(self.p, self.beta)

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
