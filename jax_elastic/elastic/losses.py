"""Losses and metric sums that families share; means are taken over the images of the mask."""

import jax
import jax.numpy as jnp
import optax

Array = jax.Array


def cross_entropy(logits: Array, targets: Array) -> Array:
    """Softmax cross-entropy per image: (B, classes), (B, classes) -> (B,), at least float32."""
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    losses: Array = optax.softmax_cross_entropy(wide, targets.astype(wide.dtype))
    return losses


def hits(logits: Array, targets: Array) -> Array:
    """1 where the likeliest class is the target's likeliest, else 0: (B,)."""
    return (logits.argmax(-1) == targets.argmax(-1)).astype(targets.dtype)


def masked_sum(values: Array, mask: Array) -> tuple[Array, Array]:
    """(sum, count) of the images that are there: (B,), (B,) -> two scalars."""
    return (values * mask).sum(), mask.sum()


def masked_mean(values: Array, mask: Array) -> Array:
    """The mean over the images that are there: (B,), (B,) -> ()."""
    total, count = masked_sum(values, mask)
    return total / jnp.maximum(count, 1)
