"""The stem of depthwise networks: one 3x3 convolution (docs/choices.md N1, N2, N5, N6)."""

from collections.abc import Callable

import flax.linen as nn
import jax

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.backbones.checks import StemKind
from jax_elastic.layers.conv import Conv
from jax_elastic.layers.norm import BatchNorm

Array = jax.Array


class ConvStem(nn.Module):
    """conv3x3-BN-activation, and a 3x3 max pool of stride 2 where `pool` says so.

    Attributes:
      features: output channels.
      stride: of the convolution, see `stem_stride`.
      pool: whether the map is pooled.
      activation: element-wise.
      conv: implementation of the convolution, see `jax_elastic.layers.conv`.
    """

    features: int
    stride: int = 2
    pool: bool = False
    activation: Callable[[Array], Array] = nn.relu
    conv: str = "canonical"

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Array:
        """The stem of images: (B, H, W, channels) -> (B, H', W', features)."""
        x = Conv(self.features, 3, self.stride, self.conv, name="conv")(x)
        x = self.activation(BatchNorm(name="bn")(x, bn))
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1))) if self.pool else x


def stem_stride(kind: StemKind) -> int:
    """Stride of the convolution: `imagenet` halves the map, `cifar` keeps it."""
    return 2 if kind == "imagenet" else 1
