"""Squeeze and excitation: channels weighted by what the whole map shows (Hu et al. 2018)."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.layers.norm import BatchNorm
from jax_elastic.layers.pointwise import Pointwise

Array = jax.Array


class SqueezeExcite(nn.Module):
    """x times a weight in [0, 1] per image and channel: (B, ..., C) -> (B, ..., C).

    The weight is the hard sigmoid of mean over the map - 1x1 - BN - ReLU - 1x1, without biases, in
    at least float32.

    Attributes:
      reduction: channels of the input per channel between the two 1x1, which are rounded up.

    Parameters:
      reduce, bn, expand.

    References:
      Hu et al. 2018; hard sigmoid: Howard et al. 2019 (MobileNetV3); docs/choices.md N6.
    """

    reduction: int = 4

    @nn.compact
    def __call__(self, x: Array, bn: Literal["batch", "running"]) -> Array:
        """Weights the channels of a map, or of features that are pooled already."""
        channels = x.shape[-1]
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        pooled = wide.mean(tuple(range(1, x.ndim - 1)), keepdims=True)
        hidden = Pointwise(-(-channels // self.reduction), name="reduce")(pooled)
        hidden = nn.relu(BatchNorm(name="bn")(hidden, bn))
        weight = nn.hard_sigmoid(Pointwise(channels, name="expand")(hidden))
        return x * weight.astype(x.dtype)
