"""The compiled programs that engines share."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jax_elastic.elastic.family import Array, Prediction
from jax_elastic.elastic.runs import Run, Way, predict_runs

PyTree = Any
PROGRAMS = 64  # that are kept; the least recently used goes first


@functools.lru_cache(PROGRAMS)
def program(
    runs: tuple[Run, ...], way: Way, share: float | None = None
) -> Callable[..., Prediction]:
    """The jitted (owns, images, budget, gates, keys) -> prediction, see `predict_runs`.

    The logits of an image that is not finite are NaN.
    """

    def run_engine(
        owns: tuple[PyTree, ...],
        images: Array,
        budget: Array | None,
        gates: Array | None,
        keys: Array | None,
    ) -> Prediction:
        found = predict_runs(runs, owns, images, budget, gates, keys, way, share)
        # On some devices a ReLU turns NaN into 0, and a broken image would get a confident answer.
        broken = ~jnp.isfinite(images).all((1, 2, 3))
        logits = tuple(jnp.where(broken[:, None], jnp.nan, level) for level in found.logits)
        return found._replace(logits=logits)

    return jax.jit(run_engine)
