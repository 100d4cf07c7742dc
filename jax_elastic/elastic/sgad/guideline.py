"""The guideline: from how sure a classifier is of an image to the share of blocks to drop for it.

Pure functions; what SGAD's print leaves open of them is docs/choices.md S6, S7.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

Array = jax.Array
Mapping = Literal["concave", "convex", "linear"]
KAPPA = 3.0


def sureness(logits: Array, temperature: float = 1.0) -> Array:
    """The variance of the entries of a soft target, as a share of the largest there is.

    Args:
      logits: (..., K) of a classifier; its soft target is softmax(logits / temperature).
      temperature: above 1 it tells images apart of which the classifier is all but certain
        (docs/choices.md S6).

    Returns:
      (...), in [0, 1]: 0 where all classes are alike, 1 where one class has everything.

    References:
      SGAD section 3.3: v = (1/K) sum_j (p_j - 1/K)^2, at most (K - 1) / K^2.
    """
    classes = logits.shape[-1]
    soft_target = jax.nn.softmax(logits / temperature)
    variance = jnp.square(soft_target - 1 / classes).mean(-1)
    return variance * (classes**2 / (classes - 1))


def expected_drop(sure: Array, p_max: Array | float, mapping: Mapping) -> Array:
    """The share of blocks to drop, which grows with how sure the classifier is.

    Args:
      sure: u, any shape, in [0, 1].
      p_max: the share at u = 1, ().
      mapping: `concave`, p_max (1 - e^(-k u)) / (1 - e^-k); `convex`, p_max (e^(k u) - 1) /
        (e^k - 1); `linear`, p_max u.

    Returns:
      The same shape, in [0, p_max].
    """
    if mapping == "linear":
        return p_max * sure
    bend = -KAPPA if mapping == "concave" else KAPPA
    return p_max * jnp.expm1(bend * sure) / math.expm1(bend)


def dropped_share(gates: Array) -> Array:
    """Gives rho = 1 - mean_l M_l: gates (N, B) -> (B,)."""
    return 1 - gates.mean(0)
