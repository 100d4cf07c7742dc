"""Times of several things run in turn in one process: what noisy machines leave comparable."""

import gc
import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Name = TypeVar("Name", bound=Hashable)


def interleaved(runs: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, Floats]:
    """Seconds of each run in each round, (rounds,); every round runs all, in a turning order.

    Args:
      runs: each returns when its work is done; called once before to compile and warm up.
      rounds: how often.
    """
    names = list(runs)
    seconds = {name: np.zeros(rounds) for name in names}
    for name in names:
        runs[name]()
    gc.collect()
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            begun = time.perf_counter()
            runs[name]()
            seconds[name][i] = time.perf_counter() - begun
    return seconds
