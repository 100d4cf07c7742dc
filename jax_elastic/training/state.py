"""The state of training: everything that a step changes."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_elastic.elastic.family import Variables

Array = jax.Array
PyTree = Any


class TrainState(NamedTuple):
    """All that is needed to go on, beside the config.

    Attributes:
      params: learnt arrays.
      stats: estimated arrays (BN statistics).
      opt_state: of the current phase's optimizer, over its trainable parameters only.
      step: steps done over all phases, int32 ().
      seed: of all random streams, uint32 (); constant, and here so that runs with different
        seeds share one compiled program.
      ema: the moving average of the variables; () where none is kept.
    """

    params: PyTree
    stats: PyTree
    opt_state: PyTree
    step: Array | np.ndarray
    seed: Array | np.ndarray
    ema: PyTree = ()

    @property
    def variables(self) -> Variables:
        """What a family's methods take, as the last step left them."""
        return {"params": self.params, "stats": self.stats}

    @property
    def evaluated(self) -> Variables:
        """What is evaluated: the moving average where one is kept."""
        return self.ema or self.variables


@jax.jit
def is_finite(tree: PyTree) -> Array:
    """Whether no leaf holds a NaN or an infinity: bool ()."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
