"""Exits: the classifier that any point of a network can end in, and networks that have several."""

from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BNMode
from jax_elastic.errors import UsageError
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


def wanted_exits(exits: tuple[int, ...] | None, of: int) -> tuple[int, ...]:
    """Which exits of 1 ... `of` answer; None stands for all.

    Raises:
      UsageError: none are wanted, or one that does not exist.
    """
    wanted = tuple(range(1, of + 1)) if exits is None else exits
    for k in wanted or (0,):
        if not 1 <= k <= of:
            raise UsageError(f"exit {k} does not exist", f"exits are 1 to {of}")
    return wanted


class Chain(Protocol):
    """An architecture of increments, each with an exit behind it."""

    @property
    def exits(self) -> int:
        """How many there are."""
        ...

    def make_increment(self, k: int, name: str | None = None) -> nn.Module:
        """What lies between the exits k - 1 and k, from 1: (image or features, bn) -> features."""
        ...

    def make_exit(self, k: int, name: str | None = None) -> nn.Module:
        """The classifiers behind increment k: (features, bn) -> logits of each label level."""
        ...


class ChainModule(nn.Module):
    """The network of an architecture, with parameters `increment1` ... and `exit1` ..."""

    architecture: Any  # a `Chain`; flax takes no protocol here

    @nn.compact
    def __call__(
        self, images: Array, bn: BNMode, exits: tuple[int, ...] | None = None
    ) -> tuple[tuple[Array, ...], ...]:
        """Classifies images at some exits; nothing is computed that none of them needs.

        Args:
          images: float (B, H, W, channels).
          bn: `batch` or `running` statistics.
          exits: which answer, from 1; None for all.

        Returns:
          For each of `exits` one float (B, classes) per label level.

        Raises:
          UsageError: there is no such exit.
        """
        net: Chain = self.architecture
        wanted = wanted_exits(exits, net.exits)
        x: Any = images
        logits = {}
        for k in range(1, max(wanted) + 1):
            x = net.make_increment(k, name=f"increment{k}")(x, bn)
            if k in wanted:
                logits[k] = net.make_exit(k, name=f"exit{k}")(x, bn)
        return tuple(logits[k] for k in wanted)
