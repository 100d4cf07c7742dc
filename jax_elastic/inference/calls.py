"""Calls of an engine that are timed one by one, and the batches that they are given."""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jax_elastic import rng
from jax_elastic.data.augment import normalise
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.elastic.family import Array, Family, Prediction
from jax_elastic.inference.engine import Engine
from jax_elastic.inference.ways import SkippingWay
from jax_elastic.subnet import Subnet

Floats = npt.NDArray[np.float64]
Clock = Callable[[], float]
LED_BELOW = 0.02  # seconds: calls that are shorter are timed right after another of their kind
KEPT = 2**29  # bytes of images that lie on the device


class Batch(NamedTuple):
    """Images (B, H, W, channels), and where a network is random their keys (B,)."""

    images: Array
    keys: Array | None


class Calls:
    """An engine that is called with one batch after the other; remembers times and what it found.

    It reads the clock itself, so that a short call may follow another one that is not timed: else
    it would find its weights in the caches where many points share them, and not where few do.

    Args:
      engine: runs them.
      subnet: the operating point.
      budget: the share of the blocks that is asked for, or None.
      batches: taken in turn, at the end from the first again; at least one.
      clock: seconds.
    """

    def __init__(
        self,
        engine: Engine,
        subnet: Subnet,
        budget: float | None,
        batches: Sequence[Batch],
        clock: Clock = time.perf_counter,
    ):
        self._engine, self._subnet, self._budget = engine, subnet, budget
        self._batches, self._clock = batches, clock
        self._next = itertools.cycle(batches)
        self._seconds: list[float] = []
        self._found: list[Prediction] = []

    def __call__(self) -> None:
        """One call that is timed, of the next batch; before it, if it is short, one that is not."""
        batch = next(self._next)
        if not self._seconds or self._seconds[-1] < LED_BELOW:
            self._run(batch)
        begun = self._clock()
        found = self._run(batch)
        self._seconds.append(self._clock() - begun)
        self._found.append(found._replace(logits=()))

    def _run(self, batch: Batch) -> Prediction:
        found = self._engine(batch.images, self._subnet, self._budget, keys=batch.keys)
        jax.block_until_ready(found)
        return found

    @property
    def seconds(self) -> Floats:
        """Of each call after the first: (calls,)."""
        return np.array(self._seconds[1:])

    @property
    def opened(self) -> npt.NDArray[np.bool_] | None:
        """Bool (calls, B, N) after the first call; None without gates."""
        gates = [found.gates for found in self._found[1:] if found.gates is not None]
        return np.stack(gates) >= 0 if gates else None

    @property
    def choice(self) -> npt.NDArray[np.int32] | None:
        """Int (calls, B) after the first call; None where nothing is chosen."""
        choices = [found.choice for found in self._found[1:] if found.choice is not None]
        return np.stack(choices) if choices else None

    @property
    def shape(self) -> tuple[int, int]:
        """(calls, B) after the first call."""
        return len(self._found) - 1, len(self._batches[0].images)

    @property
    def way(self) -> SkippingWay:
        """Through gated segments; engines remember what they calibrated."""
        images, keys = self._batches[0]
        return self._engine.way(images, self._subnet, self._budget, keys)


def batches_of(
    network: Family, dataset: Dataset, data: DataConfig, size: int, most: int
) -> list[Batch]:
    """The first images of a split, normalised and on the device: what calls are timed with.

    Args:
      network: that is timed; a random one gets keys.
      dataset: the split; at its end it is gone through from the first image again.
      data: how images are normalised.
      size: images per batch.
      most: how many batches, or as many as fit in `KEPT`.
    """
    count = max(1, min(most, KEPT // (4 * size * math.prod(dataset.images.shape[1:]))))
    batches = []
    for i in range(count):
        ids = (i * size + np.arange(size, dtype=np.int32)) % len(dataset)
        keys = rng.image_keys(ids) if network.random else None
        batches.append(Batch(normalise(jnp.asarray(dataset.images[ids]), data), keys))
    return batches
