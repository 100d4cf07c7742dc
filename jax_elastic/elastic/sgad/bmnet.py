"""BMNet, which plans from the stem's output what blocks run, and the network under it."""

import dataclasses
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.backbones.resnet import ResNet, after_stem
from jax_elastic.elastic.family import Array, BNMode, Carry, PyTree
from jax_elastic.elastic.gated import PLANNED_BLOCKS
from jax_elastic.gates import saturating_noise, straight_through
from jax_elastic.layers.conv import Conv
from jax_elastic.layers.norm import BatchNorm

BMNET = "bmnet"


class BMNet(nn.Module):
    """Two convolutions of stride 2 with BN and ReLU, GAP and a linear layer: a logit per gate.

    Attributes:
      width: channels of the first convolution; the second has twice as many.
      gates: the number of logits.
      bias: where all logits start.
      conv: implementation of the convolutions.

    References:
      SGAD section 3.2; the layers are docs/choices.md S2, the bias S4.
    """

    width: int
    gates: int
    bias: float
    conv: str = "canonical"

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Array:
        """What the stem gave, (B, H, W, C) -> logits (B, gates), at least float32."""
        for n, width in (("1", self.width), ("2", 2 * self.width)):
            x = Conv(width, 3, 2, self.conv, name=f"conv{n}")(x)
            x = nn.relu(BatchNorm(name=f"bn{n}")(x, bn))
        pooled = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
        start = nn.initializers.constant(self.bias)
        logits: Array = nn.Dense(self.gates, bias_init=start, name="logits")(pooled)
        return logits


@dataclasses.dataclass(frozen=True)
class BMNetCode:
    """BMNet as a segment: ``x`` -> ``x, plan``."""

    module: BMNet

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        return {**carry, "plan": self.module.apply(own, carry["x"], "running")}


class Noise(NamedTuple):
    """Gaussian noise before the sigmoid, of each image's own.

    Attributes:
      keys: (B,).
      sigma: standard deviation, float32 ().
    """

    keys: Array
    sigma: Array

    def added(self, logits: Array) -> Array:
        """Logits (B, N) with their noise; the same numbers with and without x64."""
        noisy: Array = jax.vmap(saturating_noise, (0, 0, None))(self.keys, logits, self.sigma)
        return noisy


class PlannedFromStem(nn.Module):
    """A ResNet whose first blocks follow the plan that BMNet makes of the stem's output.

    Attributes:
      architecture: the ResNet.
      bmnet: makes BMNet.
    """

    architecture: ResNet
    bmnet: partial[BMNet]

    @nn.compact
    def __call__(
        self, images: Array, bn: BNMode, noise: Noise | None = None
    ) -> tuple[tuple[Array, ...], PyTree]:
        """Classifies images.

        Args:
          images: float (B, H, W, channels).
          bn: `batch` or `running` statistics.
          noise: what the gates of training draw; None at test.

        Returns:
          Logits float (B, classes) of each label level, and ``{"logits", "gates"}``: what BMNet
          said, without the noise, and the gates that follow with it, both (gates, B).
        """
        net = self.architecture
        x = net.make_stem(name="stem")(images, bn)
        logits = self.bmnet(name=BMNET)(x, bn)
        noisy = logits if noise is None else noise.added(logits)
        gates = straight_through(noisy).T
        kept = jnp.ones((net.num_blocks - len(gates), len(images)), gates.dtype)
        rows = jnp.concatenate([gates, kept])
        answer, _ = after_stem(net, PLANNED_BLOCKS[net.block], x, bn, rows)
        return answer, {"logits": logits.T, "gates": gates}
