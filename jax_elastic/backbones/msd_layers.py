"""Layers that hold an image at several scales at once: the parts of MSDNet.

Features are a tuple of maps (B, H, W, C), finest first; each map is half as large as the one
before it, sizes rounded up.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.backbones.checks import StemKind
from jax_elastic.errors import UsageError
from jax_elastic.layers.conv import Conv
from jax_elastic.layers.norm import BatchNorm

Array = jax.Array
Features = tuple[Array, ...]


class ConvUnit(nn.Module):
    """Convolution, BN, ReLU: (B, H, W, C) -> (B, H / stride, W / stride, features).

    Attributes:
      features: output channels.
      size: the kernel's side.
      stride: 1 or 2; sizes are rounded up.
      bias: whether the convolution has a bias, which the BN behind it takes away again.
      conv: implementation of the convolution, see `jax_elastic.layers.conv`.
    """

    features: int
    size: int = 3
    stride: int = 1
    bias: bool = False
    conv: str = "canonical"

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Array:
        """The unit on a batch; `bn` is `batch` or `running`."""
        x = Conv(self.features, self.size, self.stride, self.conv, name="conv")(x)
        if self.bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            x = x + bias.astype(x.dtype)
        return nn.relu(BatchNorm(name="bn")(x, bn))


class BottleneckUnit(nn.Module):
    """conv1x1-BN-ReLU-conv3x3-BN-ReLU, the stride on the 3x3.

    (B, H, W, C) -> (B, H / stride, W / stride, features).

    Attributes:
      features: output channels.
      bottleneck: channels between the two convolutions per output channel; never more than C.
      stride: 1 or 2; sizes are rounded up.
      conv: implementation of the convolutions, see `jax_elastic.layers.conv`.
    """

    features: int
    bottleneck: int
    stride: int = 1
    conv: str = "canonical"

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Array:
        """The unit on a batch; `bn` is `batch` or `running`."""
        inner = min(x.shape[-1], self.bottleneck * self.features)
        x = Conv(inner, 1, 1, self.conv, name="conv1")(x)
        x = nn.relu(BatchNorm(name="bn1")(x, bn))
        x = Conv(self.features, 3, self.stride, self.conv, name="conv2")(x)
        return nn.relu(BatchNorm(name="bn2")(x, bn))


class FirstLayer(nn.Module):
    """An image at all scales: (B, H, W, channels) -> features.

    The finest scale is a convolution of the image, each other one a 3x3 convolution of stride 2
    of the scale before it.

    Attributes:
      features: channels per scale, finest first.
      kind: `cifar` is conv3x3-BN-ReLU; `imagenet` is conv7x7 of stride 2 with a bias, BN, ReLU
        and a 3x3 max pool of stride 2 (docs/choices.md M2).
      conv: implementation of the convolutions, see `jax_elastic.layers.conv`.
    """

    features: tuple[int, ...]
    kind: StemKind = "cifar"
    conv: str = "canonical"

    @nn.compact
    def __call__(self, images: Array, bn: BNMode) -> Features:
        """The features of a batch of images; `bn` is `batch` or `running`.

        Raises:
          UsageError: the images are too small to be halved so often.
        """
        self._check(images)
        width, imagenet = self.features[0], self.kind == "imagenet"
        size, stride = (7, 2) if imagenet else (3, 1)
        x = ConvUnit(width, size, stride, imagenet, self.conv, name="scale1")(images, bn)
        if imagenet:
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        found = [x]
        for scale, width in enumerate(self.features[1:], start=2):
            unit = ConvUnit(width, stride=2, conv=self.conv, name=f"scale{scale}")
            found.append(unit(found[-1], bn))
        return tuple(found)

    def _check(self, images: Array) -> None:
        _, height, width, _ = images.shape
        halvings = len(self.features) - 1 + (2 if self.kind == "imagenet" else 0)
        too_small = (1 << halvings) // 2
        if min(height, width) <= too_small:
            raise UsageError(
                f"{height}x{width} images are too small for {len(self.features)} scales",
                f"sides of more than {too_small} pixels",
                "use larger images, or fewer growth_factors and bottleneck_factors",
            )


class Layer(nn.Module):
    """Adds channels at every scale, from that scale and from the finer one beside it.

    Features -> features, without the finest scale where `growths` is one shorter than they are.

    Attributes:
      finest: number of the finest scale that it gives, counted from 1 in the network; names
        parameters.
      growths: channels that are added per scale, finest first. Where there is a finer scale one
        half comes from there and the other from the scale itself.
      bottlenecks: see `BottleneckUnit`; one per scale that the layer receives.
      transitions: channels per scale that 1x1 convolutions leave of all, or () to keep them.
      conv: implementation of the convolutions, see `jax_elastic.layers.conv`.
    """

    finest: int
    growths: tuple[int, ...]
    bottlenecks: tuple[int, ...]
    transitions: tuple[int, ...] = ()
    conv: str = "canonical"

    @nn.compact
    def __call__(self, features: Features, bn: BNMode) -> Features:
        """The layer on a batch; `bn` is `batch` or `running`."""
        dropped = len(features) - len(self.growths)
        found = []
        for i, growth in enumerate(self.growths):
            scale, at = self.finest + i, dropped + i
            parts = [features[at]]
            if at > 0:
                growth //= 2
                bottleneck = self.bottlenecks[at - 1]
                down = BottleneckUnit(growth, bottleneck, 2, self.conv, name=f"down{scale}")
                parts.append(down(features[at - 1], bn))
            bottleneck = self.bottlenecks[at]
            normal = BottleneckUnit(growth, bottleneck, 1, self.conv, name=f"normal{scale}")
            parts.append(normal(features[at], bn))
            x = jnp.concatenate(parts, axis=-1)
            if self.transitions:
                width, name = self.transitions[i], f"transition{scale}"
                x = ConvUnit(width, size=1, conv=self.conv, name=name)(x, bn)
            found.append(x)
        return tuple(found)
