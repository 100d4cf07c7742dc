"""Images in a folder per class as a set: PATH/train/CLASS/* and PATH/test/CLASS/*."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jax_elastic.data.images import UnreadableImage, read_image
from jax_elastic.errors import UsageError, first_few

PREFIX = "folder:"
"""What the name of such a set begins with; TFDS has names with slashes, too."""

LARGEST = 4 * 2**30
"""Bytes of pixels that a split may have, because it is held in memory."""

_SPLITS = ("train", "test")
_LAYOUT = "folders train and test, in both the same folder per class, in each the class's images"

_Files = Mapping[str, Sequence[Path]]  # class -> its files


def read_folder(
    name: str, split: str, image_shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], tuple[str, ...]]:
    """A split of images that lie in one folder per class.

    Classes are numbered in the order of their sorted names, and images follow their sorted
    names within a class. Hidden files are ignored; every other one has to be an image. Images
    are made to fit as `read_image` tells.

    Args:
      name: `PREFIX` and the path of the folder that holds train and test; may begin with ``~``.
      split: "train" or "test".
      image_shape: (H, W, channels) to read them to.

    Returns:
      images (N, H, W, channels); labels (N, 1); the names of the classes.

    Raises:
      UsageError: no such folder, another layout, classes that differ between train and test or
        have no image, fewer than two classes, files that are no images (the first are named),
        or more than `LARGEST` bytes of pixels.
    """
    root = Path(name.removeprefix(PREFIX)).expanduser()
    classes = _classes(root)[split]
    files = [file for members in classes.values() for file in members]
    size = len(files) * math.prod(image_shape)
    if size > LARGEST:
        raise UsageError(
            f"the {len(files)} images of {root / split} take {size / 2**30:.1f} GiB at "
            f"data.image_shape {image_shape}",
            f"{LARGEST / 2**30:g} GiB, because a folder is read into memory",
            "make a TFDS set of them (docs/data.md), or make the images smaller",
        )
    sizes = [len(members) for members in classes.values()]
    labels = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)[:, None]
    return _read(files, image_shape), labels, tuple(classes)


def _classes(root: Path) -> dict[str, _Files]:
    """Split -> class -> files, where all is as it should be."""
    if not root.is_dir():
        raise UsageError(f"there is no folder {root.absolute()}", next_step="mend data.name")
    found = [path.name for path in _visible(root) if path.is_dir()]
    if not set(_SPLITS) <= set(found):
        raise UsageError(
            f"{root} holds the folders {first_few(found) or '(none)'}",
            _LAYOUT,
            "put, for example, a fifth of every class under test",
        )
    others = [name for name in found if name not in _SPLITS]
    if others:
        raise UsageError(
            f"{root} also holds the folders {first_few(others)}",
            _LAYOUT,
            "move them away or into train, of which a share is held out for validation",
        )
    splits = {split: _split(root / split) for split in _SPLITS}
    train, test = (set(splits[split]) for split in _SPLITS)
    if train != test:
        raise UsageError(
            f"not in both {root / 'train'} and test: {first_few(sorted(train ^ test))}",
            _LAYOUT,
        )
    if len(train) < 2:
        raise UsageError(
            f"{root} has too few classes to tell apart: {', '.join(train) or '(none)'}",
            f"two or more; {_LAYOUT}",
        )
    return splits


def _split(folder: Path) -> _Files:
    """Class -> files of one split."""
    entries = _visible(folder)
    astray = [str(path) for path in entries if not path.is_dir()]
    if astray:
        raise UsageError(f"in no class's folder: {first_few(astray)}", _LAYOUT)
    classes = {path.name: _visible(path) for path in entries}
    empty = [str(folder / name) for name, files in classes.items() if not files]
    if empty:
        raise UsageError(f"without an image: {first_few(empty)}", _LAYOUT)
    return classes


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted by name, without what is hidden."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _read(files: Sequence[Path], image_shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """All files as (N, H, W, channels), or one error for all that cannot be read."""
    images = np.zeros((len(files), *image_shape), np.uint8)

    def read(index: int) -> UnreadableImage | None:
        try:
            images[index] = read_image(files[index], image_shape).pixels
        except UnreadableImage as error:
            return error
        return None

    with ThreadPoolExecutor() as pool:
        unreadable = [error for error in pool.map(read, range(len(files))) if error]
    if unreadable:
        raise UsageError(
            f"{len(unreadable)} of {len(files)} files cannot be read: "
            + first_few([f"{error.path} ({error.reason})" for error in unreadable]),
            next_step="mend or remove them",
        )
    return images
