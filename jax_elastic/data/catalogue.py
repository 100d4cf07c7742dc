"""Sets of TFDS as arrays: found by name, prepared where that can be done here, read."""

import contextlib
import difflib
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jax_elastic.data.download import DOWNLOADED, download_and_prepare
from jax_elastic.errors import UsageError

EMBEDDED = ("digits", "digits_hard")  # made of what is installed
FILE_FORMAT = "array_record"  # the one format that gives random access without TensorFlow
_TFDS = (
    "with TensorFlow and what else TFDS's command takes (pip install -e '.[prepare]'), run: tfds"
)


def read_catalogue(
    name: str, split: str, data_dir: str | None
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], dict[str, tuple[str, ...]]]:
    """A whole split of a TFDS set, decoded; without TensorFlow.

    The sets of `EMBEDDED` and `DOWNLOADED` are prepared where they are not yet; that of the
    latter is announced on standard error, because it takes minutes.

    Args:
      name: of the set, for TFDS.
      split: as TFDS calls it, e.g. "train".
      data_dir: where the set lies or is put; None for TFDS's default.

    Returns:
      images (N, H, W, C); labels (N, levels); for each level the name of its feature, "label"
      first, with the names of its classes.

    Raises:
      UsageError: see `jax_elastic.data.datasets.load`.
    """
    with _quiet():
        builder = _builder(name, data_dir)
        image_key, label_keys = _feature_keys(builder)
        if split not in builder.info.splits:
            raise UsageError(
                f"{name} has no {split} split", "it has " + ", ".join(sorted(builder.info.splits))
            )
        records = builder.as_data_source(split=split, file_format=FILE_FORMAT)
        images, labels = _decode(name, records, image_key, label_keys)
    names = {key: tuple(builder.info.features[key].names) for key in label_keys}
    if np.any((labels < 0) | (labels >= np.array([len(level) for level in names.values()]))):
        raise UsageError(f"the {split} split of {name} has images without a label")
    return images, labels, names


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
    import tensorflow_datasets as tfds

    builder = _find(name, data_dir)
    if builder.name in (*EMBEDDED, *DOWNLOADED) and not builder.is_prepared():
        builder = _prepare(builder, data_dir)
    root = os.fspath(builder.data_dir_root)
    if not builder.is_prepared():
        raise UsageError(
            f"{name} is not prepared under {root}",
            next_step=f"{_TFDS} build {name} --file_format={FILE_FORMAT} --data_dir={root}, "
            "or let TFDS_DATA_DIR name the directory that holds it",
        )
    # By its files: made from code, a builder does not learn of formats that were added later.
    builder = tfds.builder_from_directory(builder.data_dir)
    formats = sorted(form.value for form in builder.info.available_file_formats())
    if FILE_FORMAT not in formats:
        raise UsageError(
            f"{name} is prepared as {', '.join(formats)}, not as {FILE_FORMAT}",
            next_step=f"{_TFDS} convert_format --dataset_version_dir={builder.data_dir} "
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
            "take a name of TFDS's catalogue, of a set under TFDS_DATA_DIR, or folder:PATH for "
            "a folder of images",
        ) from error


def _prepared_names(data_dir: str | None) -> list[str]:
    root = Path(data_dir) if data_dir else Path()
    return [path.name for path in root.iterdir()] if data_dir and root.is_dir() else []


def _prepare(builder: Any, data_dir: str | None) -> Any:
    """Prepares a set, also where another process does so at the same time."""
    try:
        if builder.name in DOWNLOADED:
            download_and_prepare(builder, FILE_FORMAT)
        else:
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
