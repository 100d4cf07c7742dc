"""Digits that are hard to tell: few to train on, off centre, amid clutter and noise.

In a config: data.name "digits_hard", image_shape (12, 12, 1), mean (0.204,) and std (0.287,).
"""

import hashlib
import io
import math
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds

from jax_elastic.data.digits import DigitsBuilder, hash_order

# Each of these is part of what "digits_hard 1.0.0" means: another value is another dataset and
# another version.
SPLIT_SEED = 300
DRAW_SEED = 12
TRAIN_PER_CLASS = 30
SIDE = 12
PATCHES = (3, 5)  # of clutter on an image: fewest and most
PATCH_SIDES = (3, 4)  # shortest and longest, in pixels
DIMMED = 128  # brightness of clutter, in 256ths of its source's
NOISE = 24  # standard deviation, in grey levels

_DESCRIPTION = """
scikit-learn's 1,797 handwritten digits (see `digits`) made hard, to compare networks that find
`digits` too easy to differ. Train holds 30 images of every class, 300 in all, test the other
1,497; both keep scikit-learn's order. Each 8x8 digit lies at a random place on a black canvas of
12x12. Beneath it (the brighter pixel wins) are 3 to 5 patches of clutter at random places, each 3
or 4 pixels high and wide, cut out of other digits of the same split and dimmed to half: train and
test share no clutter, but a validation split carved from train shares train's. Every pixel has
noise of standard deviation 24 (sums of twelve uniform bytes, so nearly normal) and is clipped to
0 .. 255. The random numbers are whole numbers out of SHAKE-256 of the image's row, so that no
release of any library draws other images.
Over train, pixel / 255 has mean 0.2035 and standard deviation 0.2873. A plain ResNet of 15 basic
blocks and width 8, trained on 270 images for 150 epochs in batches of 32, has 86 to 90 % top-1 on
test, by its seed.
"""


class _Draws:
    """The random numbers of one image."""

    # Whole numbers out of a published hash: a NumPy generator's streams may change from one
    # release to the next, and floating point may be rounded in another way.
    def __init__(self, row: int):
        # Twice as many bytes as the largest image takes.
        self._bytes = io.BytesIO(hashlib.shake_256(f"{DRAW_SEED}:{row}".encode()).digest(4096))

    def between(self, low: int, high: int) -> int:
        """A number from low to high, both included; uneven by less than one in 10^6."""
        return low + int.from_bytes(self._bytes.read(4)) % (high - low + 1)

    def normal(self, shape: tuple[int, ...], deviation: int) -> npt.NDArray[np.int64]:
        """Numbers of mean 0, nearly normal: each the sum of twelve uniform bytes."""
        uniform = np.frombuffer(self._bytes.read(12 * math.prod(shape)), np.uint8)
        # The sums have mean 12 * 127.5 and variance 256^2 - 1.
        sums = uniform.reshape(*shape, 12).sum(-1, dtype=np.int64) - 1530
        scaled: npt.NDArray[np.int64] = (sums * deviation + 128) // 256
        return scaled


def hard_image(
    pixels: npt.NDArray[np.uint8], row: int, rows: npt.NDArray[np.integer]
) -> npt.NDArray[np.uint8]:
    """One digit at a random place, over patches of others and under noise.

    Args:
      pixels: (N, 8, 8) every digit.
      row: the digit; it alone decides every random number.
      rows: (n,) rows of its split, from which the patches are cut; `row` itself is not used.

    Returns:
      (SIDE, SIDE) uint8.
    """
    draws = _Draws(row)
    others = rows[rows != row]
    image = np.zeros((SIDE, SIDE), np.int64)
    for _ in range(draws.between(*PATCHES)):
        source = pixels[others[draws.between(0, len(others) - 1)]].astype(np.int64)
        shape = draws.between(*PATCH_SIDES), draws.between(*PATCH_SIDES)
        patch = _window(draws, source, shape)
        place = _window(draws, image, shape)
        np.maximum(place, patch * DIMMED // 256, out=place)
    place = _window(draws, image, pixels.shape[1:])
    np.maximum(place, pixels[row], out=place)
    image += draws.normal(image.shape, NOISE)
    return image.clip(0, 255).astype(np.uint8)


def _window(
    draws: _Draws, image: npt.NDArray[np.int64], shape: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """A view of `shape` at a random place of an image (H, W)."""
    top, left = (
        draws.between(0, whole - part) for whole, part in zip(image.shape, shape, strict=True)
    )
    return image[top : top + shape[0], left : left + shape[1]]


def in_train(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """(N,) True for the images of the train split, decided by the row number and SPLIT_SEED."""
    order = hash_order(SPLIT_SEED, len(labels))
    mask = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        mask[order[labels[order] == label][:TRAIN_PER_CLASS]] = True
    return mask


class DigitsHard(DigitsBuilder):
    """The 12x12 cluttered digits: image (12, 12, 1) uint8, 300 to train on and 1,497 to test."""

    name = "digits_hard"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "30 images of each class in train."}
    SIDE = SIDE
    DESCRIPTION = _DESCRIPTION

    def in_test(self, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """(N,) True for the rows of the test split: all that are not in train."""
        return ~in_train(labels)

    def draw(
        self, pixels: npt.NDArray[np.uint8], rows: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.uint8]:
        """(n, 12, 12) uint8, each digit amid clutter of its own split."""
        return np.stack([hard_image(pixels, row, rows) for row in rows])
