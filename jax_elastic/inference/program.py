"""The compiled programs that engines share."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jax_elastic.elastic.family import Array, Prediction
from jax_elastic.elastic.runs import Gates, Injected, Run, Way, predict_runs

PyTree = Any
PROGRAMS = 64  # that are kept beside each point's last one, each compiled for the shapes it met


def inject(gates: Array | None, size: int, blocks: int) -> Injected:
    """Gates bool (size, blocks) for a program; None for the network's own.

    Both are of one shape, so that trials and calls share what is compiled.
    """
    if gates is None:
        return Injected(np.zeros((size, blocks), bool), np.False_)
    return Injected(gates, np.True_)


@functools.lru_cache(PROGRAMS)
def program(
    runs: tuple[Run, ...], way: Way, share: float | None = None
) -> Callable[..., Prediction]:
    """The jitted (owns, images, budget, gates, keys) -> prediction, see `predict_runs`."""

    def run_engine(
        owns: tuple[PyTree, ...],
        images: Array,
        budget: Array | None,
        gates: Gates,
        keys: Array | None,
    ) -> Prediction:
        return predict_runs(runs, owns, images, budget, gates, keys, way, share)

    return jax.jit(run_engine)
