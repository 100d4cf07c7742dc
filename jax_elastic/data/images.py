"""Image files of any kind as the uint8 arrays of a network's shape; what was changed is said."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from jax_elastic.errors import UsageError

SUFFIXES = frozenset(
    (".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
)
"""What the files are called, in any case of letters, that are looked for in folders."""

MODES = {1: "L", 3: "RGB"}
"""Channels of a network -> Pillow's mode."""

_BACKGROUND = "white"
_GREY = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B", "I;16N")
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_SIXTEEN_BITS = ("PNG", "PPM")  # what Pillow's mode I holds where it comes from these formats
_ORIENTATION = 0x0112  # of EXIF; 1 is upright

_Step = Callable[[Image.Image], tuple[Image.Image, str | None]]


class UnreadableImage(UsageError):
    """A file that is no image, or one that cannot be converted.

    Attributes:
      path: the file.
      reason: what is wrong with it, in one line.
    """

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path} cannot be read: {reason}")
        self.path = path
        self.reason = reason


class ImageFile(NamedTuple):
    """An image that was read.

    Attributes:
      path: the file.
      pixels: (H, W, channels) uint8, in a network's shape.
      size: (height, width) in the file, upright.
      changes: what was done to it beside decoding, e.g. ``("28x28 -> 8x8", "RGB -> grey")``,
        sizes as height x width.
    """

    path: Path
    pixels: npt.NDArray[np.uint8]
    size: tuple[int, int]
    changes: tuple[str, ...]


def find_images(names: Sequence[str]) -> list[Path]:
    """The files that names stand for, each once.

    Args:
      names: a file, of whatever suffix; a folder, for all files below it, at any depth, that have
        one of `SUFFIXES` and are not hidden; or a glob (``**`` for any depth), for what it finds.

    Returns:
      In the order of the names; what is found under one name is sorted.

    Raises:
      UsageError: names that lead to no image, all of them named.
    """
    found = {name: list(_find(name)) for name in names}
    nothing = [name for name, paths in found.items() if not paths]
    if nothing:
        raise UsageError(
            "no image is found at " + ", ".join(nothing),
            "a file, a folder of images, or a glob such as 'photos/*.png'",
        )
    return list(dict.fromkeys(path for paths in found.values() for path in paths))


def _find(name: str) -> Iterator[Path]:
    """The files of one name."""
    # A file may be called `[1].png`. Path.glob would find hidden files, which no shell does.
    matches = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))  # noqa: PTH207
    for match in map(Path, matches):
        if match.is_dir():
            yield from sorted(_below(match))
        else:
            yield match


def _below(folder: Path) -> Iterator[Path]:
    """The image files in a folder and the folders in it, without the hidden ones."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"folder {error.filename} cannot be read: {error.strerror}")

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(parent) / name


def read_image(path: Path, image_shape: tuple[int, ...]) -> ImageFile:
    """Reads an image file for a network.

    It is turned upright as its EXIF data say. Transparent pixels are laid on white. Of several
    frames the first is taken, of 16 bits the upper eight. Colours become grey by their luma
    (ITU-R 601); CMYK becomes RGB by the plain formula, and no colour profile is applied. Another
    size is resized (bilinear, antialiased) to the network's, whatever its proportions.

    Args:
      path: a file that Pillow can read.
      image_shape: (H, W, channels) of the network.

    Raises:
      UnreadableImage: no such file, no image, a damaged one, or one whose pixels have no known
        range (floats, 32-bit integers).
      UsageError: the network's images are neither grey nor RGB.
    """
    height, width, channels = image_shape
    if channels not in MODES:
        raise UsageError(
            f"images of {channels} channels cannot be read from files", "1 (grey) or 3 (RGB)"
        )
    try:
        image, changes = _prepare(path, MODES[channels])
    # A decoder may raise anything on a damaged file.
    except Exception as error:
        raise UnreadableImage(path, _reason(path, error)) from error
    size = (image.height, image.width)
    if size != (height, width):
        changes = (*changes, f"{size[0]}x{size[1]} -> {height}x{width}")
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return ImageFile(path, np.array(image).reshape(image_shape), size, changes)


def _prepare(path: Path, mode: str) -> tuple[Image.Image, tuple[str, ...]]:
    """The image in a network's mode, and what was done to it."""
    changes = []
    with Image.open(path) as file:
        image: Image.Image = file
        steps: Sequence[_Step] = (
            _take_first,
            _turn,
            partial(_narrow, kind=file.format),
            _lay_on_white,
            partial(_colour, coloured=file.mode not in _GREY, mode=mode),
        )
        for step in steps:
            image, change = step(image)
            changes.append(change)
    return image, tuple(change for change in changes if change)


def _take_first(image: Image.Image) -> tuple[Image.Image, str | None]:
    """The first frame, decoded."""
    frames = getattr(image, "n_frames", 1)
    image.load()
    return image, f"first of {frames} frames" if frames > 1 else None


def _turn(image: Image.Image) -> tuple[Image.Image, str | None]:
    """Upright by the EXIF data."""
    turned = image.getexif().get(_ORIENTATION, 1) in range(2, 9)
    return ImageOps.exif_transpose(image), "turned by EXIF" if turned else None


def _narrow(image: Image.Image, kind: str | None) -> tuple[Image.Image, str | None]:
    """At most eight bits per channel; `kind` is the file's format."""
    wide = image.mode.startswith("I;16") or (image.mode == "I" and kind in _SIXTEEN_BITS)
    if wide and "transparency" in image.info:
        raise ValueError("16 bits with a transparent grey cannot be converted")
    if wide:
        # Pillow's own conversion clips at 255 in some releases.
        upper = np.asarray(image).astype(np.uint32) >> 8
        return Image.fromarray(upper.astype(np.uint8)), "16 -> 8 bits"
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers of no known range")
    return image, None


def _lay_on_white(image: Image.Image) -> tuple[Image.Image, str | None]:
    """Without transparency."""
    if image.mode not in _ALPHA and "transparency" not in image.info:
        return image, None
    image = image.convert("RGBA")
    canvas = Image.new("RGBA", image.size, _BACKGROUND)
    canvas.alpha_composite(image)
    clear = image.getchannel("A").getextrema()[0] == 255
    return canvas.convert("RGB"), None if clear else f"laid on {_BACKGROUND}"


def _colour(image: Image.Image, coloured: bool, mode: str) -> tuple[Image.Image, str | None]:
    """In a network's mode; `coloured` says whether the file has colours."""
    change = None
    if coloured and mode == "L":
        change = "colour -> grey"
    elif coloured and image.mode == "CMYK":
        change = "CMYK -> RGB"
    elif not coloured and mode == "RGB":
        change = "grey -> RGB"
    # Not every mode has a way to grey; every one that has colours has one to RGB.
    return (image.convert("RGB") if coloured else image).convert(mode), change


def _reason(path: Path, error: Exception) -> str:
    """Why a file could not be read, in one line."""
    if isinstance(error, UnidentifiedImageError):
        return "it is empty" if path.stat().st_size == 0 else "it is no image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
