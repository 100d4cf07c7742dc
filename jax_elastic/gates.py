"""Gates: what decides whether a block runs, and the one product that applies it.

Pure functions of logits and keys, no Flax. Every hard gate tests ``logit >= 0``: the sigmoid
of a small negative logit rounds to exactly 0.5 in float32, so a test of the probability would
open blocks that the logit closes.
"""

import chex
import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def hard_step(logits: Array) -> Array:
    """Opens a gate where its logit is not negative; no gradient passes.

    Args:
      logits: any shape, floating.

    Returns:
      Zeros and ones of the same shape and dtype; d(out)/d(logits) = 0 everywhere.

    References:
      URNet section 3 (Gate-Activation, the step).
    """
    # The step's gradient is zero on purpose: the BG row of URNet's table 1 depends on it.
    return lax.stop_gradient((logits >= 0).astype(logits.dtype))


@jax.custom_jvp
def straight_through(logits: Array) -> Array:
    """Rounds h = sigmoid(logits) forward, hands h's gradient backward unchanged.

    A custom derivative rather than ``h + stop_gradient(step - h)``: the sum rounds, and a gate
    of 0.99999994 would make the masked forward differ from the one that skips.

    Args:
      logits: any shape, floating.

    Returns:
      Exactly zeros and ones of the same shape and dtype; d(out)/dh = 1, hence
      d(out)/d(logits) = h (1 - h).

    References:
      Bengio et al. 2013; SGAD section 3.2.
    """
    return hard_step(logits)


@straight_through.defjvp
def _straight_through_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (logits,) = primals
    _, tangent = jax.jvp(jax.nn.sigmoid, primals, tangents)
    return hard_step(logits), tangent


def sigmoid_or_step(logits: Array, soft: Array | bool) -> Array:
    """The sigmoid where `soft`, the gradient-free step elsewhere.

    Args:
      logits: any shape, floating.
      soft: booleans that broadcast against `logits`; see `draw_soft`.

    Returns:
      Gates in [0, 1], broadcast shape, dtype of `logits`.

    References:
      URNet section 3 (Gate-Activation).
    """
    return jnp.where(soft, jax.nn.sigmoid(logits), hard_step(logits))


def draw_soft(key: Array, p: Array | float, shape: tuple[int, ...]) -> Array:
    """Draws which gates are soft: True with probability p, independently.

    Args:
      key: a `jax.random` key; split it per row under vmap, or every row draws the same.
      p: probability in [0, 1], a scalar or broadcastable to `shape`; may be traced. 0 never
        draws True and 1 always does.
      shape: the shape to draw.

    Returns:
      Booleans of `shape`, the same with and without x64.
    """
    # `jax.random.bernoulli` with a Python float draws other numbers under x64.
    uniform = jax.random.uniform(key, shape, dtype=jnp.float32)
    return uniform < jnp.asarray(p, jnp.float32)


def saturating_noise(key: Array, logits: Array, sigma: Array | float) -> Array:
    """Adds N(0, sigma^2), which teaches logits to lie far from the threshold.

    Only large logits survive the noise, so the network saturates its own gates and rounding
    them at test costs little.

    Args:
      key: a `jax.random` key; split it per row under vmap.
      logits: any shape, floating.
      sigma: standard deviation, a scalar; may be traced, so that a schedule compiles once.

    Returns:
      Noisy logits of the same shape and dtype; the noise is the same with and without x64.

    References:
      SGAD section 3.2 (noise before the sigmoid, increased over time).
    """
    noise = jnp.asarray(sigma, jnp.float32) * jax.random.normal(key, logits.shape, jnp.float32)
    return (logits + noise).astype(logits.dtype)


def gate_mul(gates: Array, values: Array) -> Array:
    """Multiplies each sample's block output by its gate; a closed gate gives exact zeros.

    The one place where a gate meets a block. ``0 * inf`` is NaN, so a plain product would let
    a block that inference skips spoil the training forward; a plain `where` would give closed
    gates no gradient, and straight-through ones would never reopen.

    Args:
      gates: (B,), floating, usually float32 in [0, 1].
      values: (B, ...), floating, the block's output F.

    Returns:
      ``where(gates == 0, 0, gates * values)``, shape and dtype of `values`. Backward:
      d(values) = ``where(gates == 0, 0, gates * ct)`` and d(gates) = the sum of ``ct * values``
      over all axes but the first, also where the gate is closed, accumulated in at least
      float32 and returned in the gates' dtype.
    """
    chex.assert_rank(
        gates, 1, custom_message="gate_mul takes one gate per sample: gates (B,), values (B, ...)"
    )
    chex.assert_equal_shape_prefix(
        (gates, values),
        1,
        custom_message="gate_mul takes one gate per sample: gates (B,), values (B, ...)",
    )
    chex.assert_type(
        (gates, values), float, custom_message="gate_mul takes floating gates and values"
    )
    return _gate_mul(gates, values)


def _scale(gates: Array, values: Array) -> Array:
    """Values times gates along the first axis, exact zeros where a gate is 0."""
    gates = gates.reshape(gates.shape + (1,) * (values.ndim - 1))
    product = (gates * values).astype(values.dtype)
    return jnp.where(gates == 0, jnp.zeros_like(product), product)


@jax.custom_vjp
def _gate_mul(gates: Array, values: Array) -> Array:
    return _scale(gates, values)


def _gate_mul_forward(gates: Array, values: Array) -> tuple[Array, tuple[Array, Array]]:
    return _scale(gates, values), (gates, values)


def _gate_mul_backward(residuals: tuple[Array, Array], ct: Array) -> tuple[Array, Array]:
    gates, values = residuals
    # A sum over a map in bfloat16 would lose all but 8 bits of a closed gate's only signal.
    wide = jnp.promote_types(values.dtype, jnp.float32)
    products = ct.astype(wide) * values.astype(wide)
    d_gates = jnp.sum(products, axis=tuple(range(1, values.ndim)))
    return d_gates.astype(gates.dtype), _scale(gates, ct)


_gate_mul.defvjp(_gate_mul_forward, _gate_mul_backward)
