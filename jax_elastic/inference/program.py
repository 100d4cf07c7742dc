"""The compiled programs that engines share."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from jax_elastic.elastic.family import Array, Prediction
from jax_elastic.elastic.runs import Run, Way, predict_runs

PyTree = Any
PROGRAMS = 64  # that are kept; the least recently used goes first


@functools.lru_cache(PROGRAMS)
def program(
    runs: tuple[Run, ...], way: Way, share: float | None = None
) -> Callable[..., Prediction]:
    """The jitted (owns, images, budget, gates, keys) -> prediction, see `predict_runs`."""

    def predict(
        owns: tuple[PyTree, ...],
        images: Array,
        budget: Array | None,
        gates: Array | None,
        keys: Array | None,
    ) -> Prediction:
        return predict_runs(runs, owns, images, budget, gates, keys, way, share)

    return jax.jit(predict)
