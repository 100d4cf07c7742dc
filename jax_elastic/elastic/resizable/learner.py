"""ResizeLearner: what looks at an image's features and says which operating point it needs.

It gives a logit for each of C candidates, ordered from the cheapest. A choice among the first k is
a plan for k - 1 gated segments, each a whole candidate: one of them is open, or none.
"""

import dataclasses
from collections.abc import Sequence
from typing import cast

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jax_elastic.elastic.family import Array, BNMode, Carry, Prediction, PyTree
from jax_elastic.layers.conv import Conv
from jax_elastic.layers.norm import BatchNorm

LEARNER = "learner"
SIZES = (1, 3, 3)


class ResizeLearner(nn.Module):
    """Three convolutions (1x1, 3x3, 3x3, each with BN and ReLU), pooled, to a logit per candidate.

    Attributes:
      width: channels of each convolution.
      candidates: C.
      conv: implementation of the convolutions, see `jax_elastic.layers.conv`.

    References:
      Resizable networks, RS-Adapt; what it leaves open: docs/choices.md R6.
    """

    width: int
    candidates: int
    conv: str = "canonical"

    @nn.compact
    def __call__(self, x: Array, bn: BNMode) -> Array:
        """(B, H, W, channels) -> logits (B, C), at least float32."""
        for number, size in enumerate(SIZES, 1):
            x = Conv(self.width, size, 1, self.conv, name=f"conv{number}")(x)
            x = nn.relu(BatchNorm(name=f"bn{number}")(x, bn))
        pooled = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
        logits: Array = nn.Dense(self.candidates, name="logits")(pooled)
        return logits


@dataclasses.dataclass(frozen=True)
class LearnerCode:
    """The learner as a segment: ``x`` -> ``x, choice_logits, choice``.

    Attributes:
      module: the learner.
      allowed: k; the candidates after the first k are not looked at.
    """

    module: ResizeLearner
    allowed: int

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        every = cast(Array, self.module.apply(own, carry["x"], "running"))
        logits = every[:, : self.allowed]
        return {**carry, "choice_logits": logits, "choice": choose(logits)}


def choose(logits: Array) -> Array:
    """The candidate of the highest logit, of equal ones the cheapest: (B, k) -> int32 (B,)."""
    return logits.argmax(-1).astype(jnp.int32)


def margin(logits: Array, candidate: int) -> Array:
    """The logit of a candidate's gate: how far it is ahead of the best other one.

    Args:
      logits: (B, k), k > 1.
      candidate: from 0.

    Returns:
      (B,), of the dtype of `logits`: >= 0 exactly where it is chosen, see `choose`, also among
      logits that are not finite.
    """
    others = jnp.delete(logits, candidate, axis=-1, assume_unique_indices=True).max(-1)
    ahead = logits[:, candidate] - others
    # Of two equal ones only the cheaper is chosen, and the gates of both would be at 0.
    behind = jnp.minimum(ahead, -np.finfo(ahead.dtype).tiny)
    # What is chosen also runs where the difference is not a number.
    open_ = jnp.where(ahead >= 0, ahead, 0)
    return jnp.where(choose(logits) == candidate, open_, behind)


def chosen(answers: Sequence[tuple[Array, ...]], choice_logits: Array | None) -> Prediction:
    """The answer of the candidate that each image chooses.

    Args:
      answers: of each candidate one (B, classes) per label level.
      choice_logits: (B, at least as many); not read of a single candidate.
    """
    if len(answers) == 1 or choice_logits is None:
        return Prediction(answers[0])
    allowed = choice_logits[:, : len(answers)]
    choice = choose(allowed)
    logits = tuple(
        jnp.take_along_axis(jnp.stack(level, 1), choice[:, None, None], 1)[:, 0]
        for level in zip(*answers, strict=True)
    )
    gates = jnp.stack([margin(allowed, place) for place in range(1, len(answers))], 1)
    return Prediction(logits, gates, choice)
