"""Which images a step sees: a function of (seed, phase, step) alone, with no iterator to save."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from jax_elastic import rng
from jax_elastic.data.datasets import Dataset


def batch_ids(
    seed: int, phase: int, step: int, size: int, batch_size: int
) -> npt.NDArray[np.int32]:
    """The images of one training step.

    The permutations of the epochs 0, 1, ... stand end to end and step k takes the k-th run of
    `batch_size` of them. A batch may span an epoch's end, so nothing is dropped and every
    epoch has each image exactly once.

    Args:
      seed: of the run.
      phase: index of the training phase; each phase has orders of its own.
      step: counted from the phase's start.
      size: number of images.
      batch_size: may exceed `size`.

    Returns:
      (batch_size,) int32 indices into the dataset.
    """
    positions = step * batch_size + np.arange(batch_size)
    epochs, places = np.divmod(positions, size)
    ids = np.empty(batch_size, np.int32)
    for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
        here = epochs == epoch
        ids[here] = _permutation(seed, phase, epoch, size)[places[here]]
    return ids


@functools.lru_cache(maxsize=4)  # one epoch's order serves many steps
def _permutation(seed: int, phase: int, epoch: int, size: int) -> npt.NDArray[np.int64]:
    permutation = rng.host(seed, rng.Stream.ORDER, phase, epoch).permutation(size)
    permutation.setflags(write=False)
    return permutation


def padded_batches(dataset: Dataset, batch_size: int) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The whole dataset in order, for evaluation: equal shapes and nothing dropped.

    Args:
      dataset: N images.
      batch_size: images per batch.

    Yields:
      {"image": (batch_size, H, W, C) uint8, "labels": (batch_size, levels) int32,
      "mask": (batch_size,) float32}; the last batch is filled up with zeros of mask 0.
    """
    for start in range(0, len(dataset), batch_size):
        images = dataset.images[start : start + batch_size]
        missing = batch_size - len(images)
        yield {
            "image": _fill(images, missing),
            "labels": _fill(dataset.labels[start : start + batch_size], missing),
            "mask": _fill(np.ones(len(images), np.float32), missing),
        }


def _fill(rows: npt.NDArray[Any], missing: int) -> npt.NDArray[Any]:
    """`rows` with `missing` rows of zeros after them."""
    return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1))
