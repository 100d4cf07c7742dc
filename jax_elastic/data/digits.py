"""scikit-learn's handwritten digits as a TFDS dataset that needs neither network nor TensorFlow."""

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


def in_test(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    """(N,) True for the images of the test split, decided by the row number and SPLIT_SEED."""
    # A hash and not a NumPy generator, whose streams may change from one release to the next.
    digests = [
        hashlib.sha256(f"{SPLIT_SEED}:{row}".encode()).digest() for row in range(len(labels))
    ]
    order = np.array(sorted(range(len(labels)), key=digests.__getitem__))
    return held_out(labels, TEST_SHARE, order)


class Digits(tfds.core.GeneratorBasedBuilder):
    """The 8x8 digits: image (8, 8, 1) uint8, label 0 .. 9; splits train and test."""

    name = "digits"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "80 % train, 20 % test, stratified."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
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
        test = in_test(labels)
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
        for row in rows:
            # A PIL image: TFDS would ask TensorFlow to encode an array.
            yield int(row), {"image": Image.fromarray(pixels[row]), "label": int(labels[row])}
