"""The classifier of pre-activation networks, which any point of a network can end in."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.layers.norm import BatchNorm

Array = jax.Array


class Exit(nn.Module):
    """BN-ReLU, global average pooling and a linear classifier per label level, in float32.

    Attributes:
      classes: number of classes of each label level, the finest first.

    Parameters:
      bn, and `classifier`, `classifier2`, ... (one per label level).

    References:
      Anytime neural prediction, section 2 (g_k) and section 2.3 (g_{k,d}).
    """

    classes: tuple[int, ...]

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> tuple[Array, ...]:
        """(B, H, W, C) -> logits (B, classes) per label level."""
        x = nn.relu(BatchNorm(name="bn")(x, bn))
        pooled = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
        names = ["classifier", *(f"classifier{d}" for d in range(2, len(self.classes) + 1))]
        return tuple(
            nn.Dense(count, name=name)(pooled)
            for name, count in zip(names, self.classes, strict=True)
        )
