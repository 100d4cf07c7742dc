"""Random drop: each block is kept with probability S, the baseline that learns nothing of it."""

import dataclasses

import jax
import jax.numpy as jnp

from jax_elastic.elastic.budgeted import Asked, Budgeted
from jax_elastic.elastic.dropping import GatedForward
from jax_elastic.elastic.family import Array, BNMode, Carry, PyTree, Segment, Variables
from jax_elastic.elastic.planned import Planned
from jax_elastic.elastic.segments import take_nothing


def uniforms_of(keys: Array, blocks: int) -> Array:
    """Numbers of each image's own key: keys (B,) -> float32 (B, blocks), in [0, 1)."""
    return jax.vmap(lambda key: jax.random.uniform(key, (blocks,), jnp.float32))(keys)


def keep_logits(uniforms: Array, budget: Array) -> Array:
    """1 where a block is kept, which happens with probability S, else -1.

    Args:
      uniforms: (B, N), in [0, 1).
      budget: S, () or (B,).

    Returns:
      (B, N).
    """
    kept = uniforms < jnp.asarray(budget, uniforms.dtype)[..., None]
    return jnp.where(kept, 1.0, -1.0).astype(uniforms.dtype)


@dataclasses.dataclass(frozen=True)
class RandomPlanCode:
    """Drops blocks at random: ``key, budget`` -> ``plan``.

    Attributes:
      blocks: N.
    """

    blocks: int

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        del own
        uniforms = uniforms_of(carry["key"], self.blocks)
        rest = {name: array for name, array in carry.items() if name != "key"}
        return {**rest, "plan": keep_logits(uniforms, carry["budget"])}


@dataclasses.dataclass(frozen=True)
class RandomDrop(Planned, Budgeted):
    """A plain ResNet whose blocks are dropped at random, per image and block (URNet table 1).

    Trained in a phase of objective `gated` it is the paper's "rand train/val", without one its
    "rand val".
    """

    @property
    def random(self) -> bool:
        """True: what is dropped is drawn at test, too."""
        return True

    def train_noise(self, key: Array, size: int) -> Array:
        """Uniforms (B, N)."""
        return self.test_noise(jax.random.split(key, size))

    def test_noise(self, key: Array | None) -> Array:
        """Uniforms (B, N)."""
        assert key is not None
        return uniforms_of(key, self.backbone.num_blocks)

    def gated_forward(
        self, variables: Variables, images: Array, asked: Asked, bn: BNMode
    ) -> GatedForward:
        """See `Budgeted`; `asked.noise` is uniforms (B, N)."""
        opened = keep_logits(asked.noise, asked.budget).T
        gates = (opened >= 0).astype(opened.dtype)
        return self.planned_forward(variables, images, gates, opened, bn)

    def plan_segment(self) -> Segment:
        """The draw."""
        return Segment("plan", RandomPlanCode(self.backbone.num_blocks), take_nothing, "plan")
