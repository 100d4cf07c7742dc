"""What a config has to know of a set: the mean and the std of its pixels."""

import shlex

import numpy as np
import numpy.typing as npt

from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load


def mean_and_std(
    images: npt.NDArray[np.uint8],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of pixel / 255, over all images.

    Args:
      images: (N, H, W, C), at least one pixel.

    Returns:
      The mean of each of the C channels, and the std of each.
    """
    levels = np.arange(256) / 255
    # Counted, because the pixels of a set as floats take eight times its memory.
    channels = (images[..., channel] for channel in range(images.shape[-1]))
    counts = np.stack([np.bincount(pixels.ravel(), minlength=256) for pixels in channels])
    shares = counts / counts.sum(-1, keepdims=True)
    mean = shares @ levels
    std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(-1))
    return tuple(mean.tolist()), tuple(std.tolist())


def describe(name: str, image_shape: tuple[int, ...]) -> str:
    """What a set holds, and the flags with which a config trains on it.

    Args:
      name: of the set, see `DataConfig`.
      image_shape: (H, W, channels) of its images, or to which those of a folder are resized.

    Returns:
      Lines for a terminal. Mean and std are those of all of train, rounded to four digits.

    Raises:
      UsageError: see `load`.
    """
    blank = (0.0,) * image_shape[-1]
    config = DataConfig(name, image_shape, validation=0, mean=blank, std=(1.0,) * len(blank))
    train, test = load(config, "train"), load(config, "test")
    mean, std = mean_and_std(train.images)
    flags = {"name": name, "image_shape": image_shape, "mean": _rounded(mean), "std": _rounded(std)}
    head = f"{len(train)} images to train, {len(test)} to test, {train.classes[0]} classes: "
    lines = [f"--config.data.{key}={value}".replace(", ", ",") for key, value in flags.items()]
    return "\n".join([head + ", ".join(train.class_names), *map(shlex.quote, lines)])


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 4) for value in values)
