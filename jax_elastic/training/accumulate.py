"""Gradients of a batch taken part by part: the memory of one part, the step of the whole."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jax_elastic.elastic.family import Array, Batch
from jax_elastic.training.sum_of_grads import Found, add_up


def accumulate(grads: Callable[[Batch, Array], Found], batch: Batch, key: Array, n: int) -> Found:
    """Loss, aux and gradients of a batch, computed in n equal parts.

    Equal to the whole batch where the loss is a mean over images that each stand alone: not where
    BN normalises with the batch (it sees a part; the moments are averaged), and not where noise
    is drawn (each part has a key of its own). See docs/choices.md T4.

    Args:
      grads: (batch, key) -> ((mean loss, Aux), gradients).
      batch: of B images, all of them there (a mask of ones); n divides B.
      key: of the step.
      n: number of parts; 1 is `grads` itself.

    Returns:
      ((mean of the losses, sum of Aux), mean of the gradients).
    """
    if n == 1:
        return grads(batch, key)

    def part(rows: Array) -> Array:
        # Every n-th image and not a run of them: so each device cuts up its own share.
        return jnp.swapaxes(rows.reshape(-1, n, *rows.shape[1:]), 0, 1)

    (value, aux), total = add_up(grads, (jax.tree.map(part, batch), jax.random.split(key, n)))
    return (value / n, aux), jax.tree.map(lambda leaf: leaf / n, total)
