"""scikit-learn's handwritten digits as a TFDS set that needs neither network nor TensorFlow."""

import abc
import hashlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.datasets import load_digits

from jax_elastic.data.split import held_out

# Part of what "digits 1.0.0" means: another value is another dataset and another version.
SPLIT_SEED = 1797
TEST_SHARE = 0.2
INK_LEVELS = 16  # scikit-learn counts the inked pixels of 4x4 cells: 0 .. 16

_DESCRIPTION = """
Handwritten digits of 43 people, 8x8 pixels: the test part of the UCI set "Optical Recognition
of Handwritten Digits" as scikit-learn ships it (`sklearn.datasets.load_digits`, 1,797 images).
The 17 ink levels v are stored as round(v * 255 / 16), which round(pixel / 255 * 16) undoes.
Train holds 80 % of every class, test the rest; both keep scikit-learn's order. Writers are not
recorded, so the same hand may appear in both.
"""

_CITATION = """
@misc{alpaydin1998optical,
  title = {Optical Recognition of Handwritten Digits},
  author = {Alpaydin, E. and Kaynak, C.},
  year = {1998},
  publisher = {UCI Machine Learning Repository},
  doi = {10.24432/C50P49}
}
"""


def to_pixels(ink: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Ink levels 0 .. 16 of any shape as uint8 pixels 0 .. 255, invertibly."""
    return np.round(ink * (255 / INK_LEVELS)).astype(np.uint8)


def hash_order(seed: int, count: int) -> npt.NDArray[np.integer]:
    """(count,) a permutation of 0 .. count-1: the rows in the order of their hashes."""
    # A hash and not a NumPy generator, whose streams may change from one release to the next.
    digests = [hashlib.sha256(f"{seed}:{row}".encode()).digest() for row in range(count)]
    return np.array(sorted(range(count), key=digests.__getitem__))


def in_test(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """(N,) True for the images of the test split, decided by the row number and SPLIT_SEED."""
    return held_out(labels, TEST_SHARE, hash_order(SPLIT_SEED, len(labels)))


class DigitsBuilder(tfds.core.GeneratorBasedBuilder):
    """A set made of scikit-learn's digits: grey images, label 0 .. 9; splits train and test.

    Attributes:
      SIDE: height and width of its images, in pixels.
      DESCRIPTION: what the set is, for its readers.
    """

    SIDE: ClassVar[int]
    DESCRIPTION: ClassVar[str]

    @abc.abstractmethod
    def in_test(self, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """(N,) True for the rows of the test split."""

    @abc.abstractmethod
    def draw(
        self, pixels: npt.NDArray[np.uint8], rows: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.uint8]:
        """The images of one split.

        Args:
          pixels: (N, 8, 8) every digit.
          rows: (n,) those of the split.

        Returns:
          (n, SIDE, SIDE) uint8.
        """

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (self.SIDE, self.SIDE, 1)
        return self.dataset_info_from_configs(
            description=self.DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=shape, encoding_format="png"),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
            citation=_CITATION,
            # The records' order is then scikit-learn's, not that of TFDS's hash.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager  # the images come with scikit-learn
        ink, labels = load_digits(return_X_y=True)
        pixels = to_pixels(ink).reshape(-1, 8, 8)
        test = self.in_test(labels)
        return {
            "train": self._generate_examples(pixels, labels, np.flatnonzero(~test)),
            "test": self._generate_examples(pixels, labels, np.flatnonzero(test)),
        }

    def _generate_examples(
        self,
        pixels: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.integer],
        rows: npt.NDArray[np.integer],
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for row, image in zip(rows, self.draw(pixels, rows), strict=True):
            # A PIL image: TFDS would ask TensorFlow to encode an array.
            yield int(row), {"image": Image.fromarray(image), "label": int(labels[row])}


class Digits(DigitsBuilder):
    """The 8x8 digits as they are: image (8, 8, 1) uint8."""

    name = "digits"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "80 % train, 20 % test, stratified."}
    SIDE = 8
    DESCRIPTION = _DESCRIPTION

    def in_test(self, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """(N,) True for the rows of the test split: a fifth of every class."""
        return in_test(labels)

    def draw(
        self, pixels: npt.NDArray[np.uint8], rows: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.uint8]:
        """(n, 8, 8) uint8, the digits of `rows`."""
        images: npt.NDArray[np.uint8] = pixels[rows]
        return images
