"""The stem of MobileNets, and the sides of the maps behind it (docs/choices.md N1, N2)."""

import itertools
from collections.abc import Callable, Iterable
from typing import get_args

import flax.linen as nn
import jax

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.backbones.resnet import StemKind
from jax_elastic.errors import UsageError
from jax_elastic.layers.conv import Conv
from jax_elastic.layers.norm import BatchNorm

Array = jax.Array


class MobileStem(nn.Module):
    """conv3x3-BN-activation: (B, H, W, channels) -> (B, H', W', features).

    Attributes:
      features: output channels.
      kind: `imagenet` halves the map, `cifar` keeps it.
      conv: implementation of the convolution, see `jax_elastic.layers.conv`.
      activation: what follows BN.
    """

    features: int
    kind: StemKind = "imagenet"
    conv: str = "canonical"
    activation: Callable[[Array], Array] = nn.relu

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Array:
        """The stem of a batch; `bn` is `batch` or `running`."""
        stride = 2 if self.kind == "imagenet" else 1
        x = Conv(self.features, 3, stride, self.conv, name="conv")(x)
        return self.activation(BatchNorm(name="bn")(x, bn))


def check_stem(kind: str) -> None:
    """Refuses a stem that there is not.

    Raises:
      UsageError: `kind` is neither `cifar` nor `imagenet`.
    """
    if kind not in get_args(StemKind):
        raise UsageError(f"stem {kind!r} is unknown", f"there are: {', '.join(get_args(StemKind))}")


def sides_behind(side: int, kind: StemKind, strides: Iterable[int]) -> tuple[int, ...]:
    """The side of the stem's map and of those behind layers of some strides, in pixels.

    Args:
      side: of the images.
      kind: of the stem.
      strides: of the layers, in order.
    """
    own = -(-side // 2) if kind == "imagenet" else side
    return tuple(itertools.accumulate(strides, lambda n, stride: -(-n // stride), initial=own))
