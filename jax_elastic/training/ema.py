"""The moving average of a network's variables, which is what is evaluated where it is kept."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_elastic.elastic.family import Array, Variables

PyTree = Any
RAMP = 10
"""The decay is at most (1 + step) / (RAMP + step): a young average forgets where it began.

Steps are those of the phase, so that it also forgets, soon after a phase has begun, what a phase
before left untrained.
"""


def moving_average(
    average: PyTree, variables: Variables, decay: float, step: Array | np.ndarray
) -> PyTree:
    """The average after one more step: ``decay * average + (1 - decay) * variables``.

    BN statistics are averaged as well: they belong to the parameters beside them. Counts are
    taken as they are.

    Args:
      average: of the steps before, a tree like `variables`.
      variables: after this step.
      decay: in [0, 1).
      step: steps of the phase done before this one, int ().

    References:
      Polyak and Juditsky 1992; the ramp is that of TensorFlow's ExponentialMovingAverage.
      docs/choices.md T3.
    """
    weight = jnp.minimum(decay, (1 + step) / (RAMP + step))

    def mix(old: Array, new: Array) -> Array:
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        return (weight * old + (1 - weight) * new).astype(new.dtype)

    return jax.tree.map(mix, average, variables)
