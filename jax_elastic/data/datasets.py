"""A named image-classification set as arrays: read from TFDS once, without TensorFlow."""

import contextlib
import dataclasses
import difflib
import functools
import io
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jax_elastic import rng
from jax_elastic.data.split import held_out
from jax_elastic.errors import UsageError

PREPARE_THEMSELVES = ("digits", "digits_hard")  # on first use, without TensorFlow or network
SPLITS = ("train", "validation", "test")
FILE_FORMAT = "array_record"  # the one format that gives random access without TensorFlow
_LARGEST_VALIDATION = 0.5


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are prepared for a network; hashable, so static under jit.

    Attributes:
      name: a TFDS name, e.g. "digits" or "cifar100".
      image_shape: (H, W, channels) of its images; what the network is built for.
      validation: share of every class of train that is held out as "validation", in
        [0, 0.5]; 0 holds out nothing.
      pad: black pixels added on every side before a random crop back to size; 0 = no crop.
      flip: whether training mirrors half of the images left to right.
      mean: of pixel / 255, one value per channel. The default is that of digits' train
        split (0.3057 over all 1,438 images).
      std: of pixel / 255, one value per channel. The default is that of digits' train
        split (0.3759).

    Raises:
      UsageError: at construction, where a value is out of range.
    """

    name: str = "digits"
    image_shape: tuple[int, ...] = (8, 8, 1)
    validation: float = 0.1
    pad: int = 1
    flip: bool = False
    mean: tuple[float, ...] = (0.306,)
    std: tuple[float, ...] = (0.376,)

    def __post_init__(self) -> None:
        # Lists, too, may be given; only tuples hash.
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise UsageError(f"data.image_shape {self.image_shape} is not (H, W, channels)")
        if not 0 <= self.validation <= _LARGEST_VALIDATION:
            raise UsageError(
                f"data.validation {self.validation} is outside [0, {_LARGEST_VALIDATION}]",
                next_step="give the share of train to hold out, for example 0.1",
            )
        if isinstance(self.pad, bool) or not isinstance(self.pad, int) or self.pad < 0:
            raise UsageError(f"data.pad {self.pad!r} is not a whole number of pixels >= 0")
        channels = self.image_shape[-1]
        if not len(self.mean) == len(self.std) == channels:
            raise UsageError(
                f"data.mean has {len(self.mean)} values and data.std {len(self.std)}",
                f"one of each per channel, and data.image_shape has {channels}",
            )
        if not all(0 <= value <= 1 for value in self.mean):
            raise UsageError(f"data.mean {self.mean} is outside [0, 1]", "the mean of pixel / 255")
        if not all(0 < value < math.inf for value in self.std):
            raise UsageError(f"data.std {self.std} is not positive", "the std of pixel / 255")


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no truth value to compare by
class Dataset:
    """One split in memory.

    Attributes:
      name: the dataset's name.
      images: (N, H, W, C) uint8.
      labels: (N, levels) int32; one column per label level, the finest first.
      classes: number of classes of each level.
      class_names: names of the first level's classes.
    """

    name: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    classes: tuple[int, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, ids: npt.NDArray[Any]) -> "Dataset":
        """The images at `ids` (indices or a mask), in that order."""
        return dataclasses.replace(self, images=self.images[ids], labels=self.labels[ids])


def load(config: DataConfig, split: str) -> Dataset:
    """Reads a split into memory; the sets of `PREPARE_THEMSELVES` are prepared on first use.

    The validation split is carved from train, stratified by the first label level, and does
    not depend on the training seed: runs with different seeds are compared on the same images.

    Args:
      config: names the set and the validation share.
      split: "train", "validation" or "test".

    Raises:
      UsageError: unknown set or split, a set that is not prepared as array_record, an empty
        split, images that are no equal-sized uint8, unlabelled images, or images of
        another shape than config.image_shape.
    """
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}", "one of " + ", ".join(SPLITS))
    if split == "validation" and config.validation == 0:
        raise UsageError(
            f"the validation split of {config.name} is empty: data.validation is 0",
            next_step="hold out a share of train, for example data.validation=0.1",
        )
    source = "test" if split == "test" else "train"
    dataset = _read(config.name, source, os.environ.get("TFDS_DATA_DIR"))
    if split != "test":
        order = rng.host(0, rng.Stream.SPLIT).permutation(len(dataset))
        held = held_out(dataset.labels[:, 0], config.validation, order)
        dataset = dataset.take(held if split == "validation" else ~held)
    if len(dataset) == 0:
        raise UsageError(
            f"the {split} split of {config.name} is empty",
            next_step="no class has enough images for this data.validation; raise it",
        )
    if dataset.images.shape[1:] != config.image_shape:
        raise UsageError(
            f"data.image_shape is {config.image_shape} but {config.name} has images of "
            f"{dataset.images.shape[1:]}",
            next_step="set data.image_shape to that, with mean and std for each channel",
        )
    return dataset


@functools.lru_cache(maxsize=1)  # train and validation are asked for one after the other
def _read(name: str, split: str, data_dir: str | None) -> Dataset:
    """A whole TFDS split, decoded; its arrays are shared by the callers and read-only."""
    with _quiet():
        builder = _builder(name, data_dir)
        image_key, label_keys = _feature_keys(builder)
        if split not in builder.info.splits:
            raise UsageError(
                f"{name} has no {split} split", "it has " + ", ".join(sorted(builder.info.splits))
            )
        records = builder.as_data_source(split=split, file_format=FILE_FORMAT)
        images, labels = _decode(name, records, image_key, label_keys)
    features = [builder.info.features[key] for key in label_keys]
    classes = tuple(int(feature.num_classes) for feature in features)
    if np.any((labels < 0) | (labels >= np.array(classes))):
        raise UsageError(f"the {split} split of {name} has images without a label")
    images.setflags(write=False)
    labels.setflags(write=False)
    return Dataset(name, images, labels, classes, tuple(features[0].names))


def _decode(
    name: str, records: Any, image_key: str, label_keys: tuple[str, ...]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Every record of a data source as images (N, H, W, C) and labels (N, levels)."""
    labels = np.zeros((len(records), len(label_keys)), np.int32)
    images: npt.NDArray[np.uint8] | None = None
    for index in range(len(records)):
        record = records[index]
        image = record[image_key]
        if images is None:
            # Filled in place: a list to be stacked would hold every image twice.
            images = np.zeros((len(records), *image.shape), np.uint8)
        if image.shape != images.shape[1:] or image.dtype != np.uint8:
            raise UsageError(
                f"{name} has images of {images.shape[1:]} and {image.shape} {image.dtype}",
                "uint8 images of one size",
            )
        images[index] = image
        labels[index] = [record[key] for key in label_keys]
    if images is None:
        raise UsageError(f"{name} has a split without any image")
    return images, labels


def _feature_keys(builder: Any) -> tuple[str, tuple[str, ...]]:
    """The image feature of a set and all its ClassLabel features, "label" first."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    image_keys = [key for key in features if isinstance(features[key], tfds.features.Image)]
    label_keys = [key for key in features if isinstance(features[key], tfds.features.ClassLabel)]
    if len(image_keys) != 1 or not label_keys:
        raise UsageError(
            f"{builder.info.name} has {len(image_keys)} image and {len(label_keys)} class features",
            "an image-classification set: one Image and at least one ClassLabel",
        )
    return image_keys[0], tuple(sorted(label_keys, key=lambda key: (key != "label", key)))


def _builder(name: str, data_dir: str | None) -> Any:
    """The TFDS builder of a set that is prepared as array_record."""
    builder = _find(name, data_dir)
    if builder.name in PREPARE_THEMSELVES and not builder.is_prepared():
        builder = _prepare(builder, data_dir)
    root = os.fspath(builder.data_dir_root)
    if not builder.is_prepared():
        raise UsageError(
            f"{name} is not prepared under {root}",
            next_step="where TensorFlow is installed (pip install -e '.[prepare]'), run: "
            f"tfds build {name} --file_format={FILE_FORMAT} --data_dir={root}, "
            "or let TFDS_DATA_DIR name the directory that holds it",
        )
    formats = sorted(form.value for form in builder.info.available_file_formats())
    if FILE_FORMAT not in formats:
        raise UsageError(
            f"{name} is prepared as {', '.join(formats)}, not as {FILE_FORMAT}",
            next_step="where TensorFlow is installed (pip install -e '.[prepare]'), run: "
            f"tfds convert_format --dataset_version_dir={builder.data_dir} "
            f"--out_file_format={FILE_FORMAT}",
        )
    return builder


def _find(name: str, data_dir: str | None) -> Any:
    """The builder of a set TFDS knows by its code or by its files."""
    # TFDS takes half a second to import, which batches and configs need not pay for.
    import tensorflow_datasets as tfds

    # Registers them with TFDS.
    import jax_elastic.data.digits
    import jax_elastic.data.digits_hard  # noqa: F401

    try:
        return tfds.builder(name, data_dir=data_dir)
    # Names that TFDS cannot parse, versions and configs it lacks, community sets it has no
    # package for: all are a name that does not lead to a set.
    except (ValueError, ImportError, AssertionError) as error:
        known = {*tfds.list_builders(with_community_datasets=False), *_prepared_names(data_dir)}
        nearest = difflib.get_close_matches(name, sorted(known), n=3)
        raise UsageError(
            f"unknown dataset {name!r}",
            f"nearest names: {', '.join(nearest)}" if nearest else None,
            "take a name of TFDS's catalogue or of a set under TFDS_DATA_DIR",
        ) from error


def _prepared_names(data_dir: str | None) -> list[str]:
    root = Path(data_dir) if data_dir else Path()
    return [path.name for path in root.iterdir()] if data_dir and root.is_dir() else []


def _prepare(builder: Any, data_dir: str | None) -> Any:
    """Prepares a set of our own, also where another process does so at the same time."""
    try:
        builder.download_and_prepare(file_format=FILE_FORMAT)
    except OSError:
        # TFDS prepares in a directory of its own and renames it; the rename fails where
        # another process was first. Its files are the same as ours.
        if not _find(builder.name, data_dir).is_prepared():
            raise
    return _find(builder.name, data_dir)  # a builder reads the files' facts when it is made


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS's progress bars, its log and what it prints off the terminal.

    Standard output belongs to the command, which may write JSON to it. The bars stay off
    afterwards: TFDS does not tell whether they were on.
    """
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
