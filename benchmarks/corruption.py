"""Test images made harder, to see whether a network spends more on them."""

import dataclasses
from collections.abc import Callable

import numpy as np

from jax_elastic.data.datasets import Dataset

NOISE = 64  # standard deviation in grey levels


def noisy(dataset: Dataset) -> Dataset:
    """Every image under Gaussian pixel noise; the same noise in every call."""
    generator = np.random.Generator(np.random.Philox(0))
    noise = generator.normal(0, NOISE, dataset.images.shape)
    images = np.clip(np.rint(dataset.images + noise), 0, 255).astype(np.uint8)
    return dataclasses.replace(dataset, images=images)


CORRUPTIONS: dict[str, Callable[[Dataset], Dataset]] = {"noisy": noisy}
"""Name -> what is done to a data set."""
