"""A named image-classification set as arrays: of TFDS without TensorFlow, or of a folder."""

import dataclasses
import functools
import hashlib
import math
import os
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from jax_elastic import rng
from jax_elastic.data.catalogue import read_catalogue
from jax_elastic.data.folder import PREFIX, read_folder
from jax_elastic.data.split import held_out
from jax_elastic.data.targets import Targets, check_candidates, check_images, read_targets
from jax_elastic.data.taxonomy import Taxonomy, load_taxonomy
from jax_elastic.errors import UsageError

SPLITS = ("train", "validation", "test")
CROPS = ("pad", "resized")
_LARGEST_VALIDATION = 0.5
_LARGEST_JITTER = (1.0, 1.0, 1.0, 0.5)  # brightness, saturation, contrast, hue


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are prepared for a network; hashable, so static under jit.

    Attributes:
      name: a TFDS name, e.g. "digits" or "cifar100", or "folder:PATH" for a folder of images
        (docs/data.md).
      image_shape: (H, W, channels) of its images, or to which those of a folder are resized;
        what the network is built for.
      validation: share of every class of train that is held out as "validation", in
        [0, 0.5]; 0 holds out nothing.
      crop: how training crops: "pad" shifts the image by up to `pad` pixels; "resized" stretches
        a random part of it over the whole, which enlarges what lies in memory.
      pad: black pixels added on every side before a random crop back to size; 0 = no crop.
      flip: whether training mirrors half of the images left to right.
      cutout: side in pixels of the square that training blanks in each image; 0 = none.
      jitter: how much training changes brightness, saturation, contrast and hue, each in [0, 1]
        but hue in [0, 0.5], see `jitter` of `colours`; () = none. Saturation and hue are 0 but for
        RGB.
      mixup: alpha of the Beta distribution by which training mixes pairs of images; 0 = none.
      mean: of pixel / 255, one value per channel. The default is that of digits' train
        split (0.3057 over all 1,438 images).
      std: of pixel / 255, one value per channel. The default is that of digits' train
        split (0.3759).
      taxonomy: what a network with several label levels learns: the name of a taxonomy of the
        package, e.g. "cifar100", or the path of a .json file (docs/data.md); empty for one level.
      targets: what a network learns that chooses between operating points: the path of a file of
        targets, to whose images training is then restricted; empty for none.

    Raises:
      UsageError: at construction, where a value is out of range.
    """

    name: str = "digits"
    image_shape: tuple[int, ...] = (8, 8, 1)
    validation: float = 0.1
    crop: Literal["pad", "resized"] = "pad"
    pad: int = 1
    flip: bool = False
    cutout: int = 0
    jitter: tuple[float, ...] = ()
    mixup: float = 0.0
    mean: tuple[float, ...] = (0.306,)
    std: tuple[float, ...] = (0.376,)
    taxonomy: str = ""
    targets: str = ""

    def __post_init__(self) -> None:
        # Lists, too, may be given; only tuples hash.
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        object.__setattr__(self, "jitter", tuple(float(value) for value in self.jitter))
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise UsageError(f"data.image_shape {self.image_shape} is not (H, W, channels)")
        if not 0 <= self.validation <= _LARGEST_VALIDATION:
            raise UsageError(
                f"data.validation {self.validation} is outside [0, {_LARGEST_VALIDATION}]",
                next_step="give the share of train to hold out, for example 0.1",
            )
        for name in ("pad", "cutout"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UsageError(f"data.{name} {value!r} is not a whole number of pixels >= 0")
        if self.cutout > min(self.image_shape[:2]):
            raise UsageError(
                f"data.cutout {self.cutout} is larger than images of {self.image_shape[:2]}",
                "the side of a square within them",
            )
        self._check_crop()
        self._check_jitter()
        if not 0 <= self.mixup < math.inf:
            raise UsageError(f"data.mixup {self.mixup} is no alpha", "0 for none, or more")
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

    def _check_crop(self) -> None:
        if self.crop not in CROPS:
            raise UsageError(f"data.crop {self.crop!r} is unknown", "one of " + ", ".join(CROPS))
        if self.crop == "resized" and self.pad:
            raise UsageError(
                f"data.crop 'resized' and data.pad {self.pad} are two crops",
                "one of the two",
                "set data.pad to 0, or data.crop to 'pad'",
            )

    def _check_jitter(self) -> None:
        if not self.jitter:
            return
        if len(self.jitter) != len(_LARGEST_JITTER):
            raise UsageError(
                f"data.jitter {self.jitter} has {len(self.jitter)} values",
                "those of brightness, saturation, contrast and hue, or none: ()",
                "for example data.jitter=(0.4, 0.4, 0.4, 0.1)",
            )
        if not all(0 <= v <= m for v, m in zip(self.jitter, _LARGEST_JITTER, strict=True)):
            raise UsageError(
                f"data.jitter {self.jitter} is out of range",
                "brightness, saturation and contrast in [0, 1], hue in [0, 0.5]",
            )
        _, saturation, _, hue = self.jitter
        if (saturation or hue) and self.image_shape[-1] != 3:
            raise UsageError(
                f"data.jitter {self.jitter} changes colours, and images of {self.image_shape} are "
                "not RGB",
                "brightness and contrast alone",
                f"set data.jitter to {(self.jitter[0], 0.0, self.jitter[2], 0.0)}",
            )


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no truth value to compare by
class Dataset:
    """One split in memory.

    Attributes:
      name: the dataset's name.
      images: (N, H, W, C) uint8.
      labels: (N, levels) int32; one column per label level, the finest first. Where there are
        `candidates` one column more, an index into them.
      classes: number of classes of each level.
      class_names: names of the first level's classes.
      level_names: what the levels are called, finest first.
      coarse_names: of each further level, the names of its classes.
      taxonomy: SHA-256 of the taxonomy that the levels are of; empty where a set's labels are as
        they came with it, and only the first is used.
    """

    name: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    classes: tuple[int, ...]
    class_names: tuple[str, ...]
    level_names: tuple[str, ...] = ("class",)
    coarse_names: tuple[tuple[str, ...], ...] = ()
    taxonomy: str = ""
    candidates: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything but the name, as hex digits."""
        digest = hashlib.sha256(repr((self.classes, self.class_names, self.images.shape)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        digest.update(self.taxonomy.encode())
        digest.update("".join(self.candidates).encode())
        return digest.hexdigest()

    def take(self, ids: npt.NDArray[Any]) -> "Dataset":
        """The images at `ids` (indices or a mask), in that order."""
        return dataclasses.replace(self, images=self.images[ids], labels=self.labels[ids])

    def check_classes(self, classes: tuple[int, ...]) -> None:
        """Refuses a network of other label levels, or of other numbers of classes in them.

        Args:
          classes: of the network, one number per label level.

        Raises:
          UsageError: they differ.
        """
        own = self.classes if self.taxonomy else self.classes[:1]
        if len(classes) > len(own) == 1:
            raise UsageError(
                f"the network has {len(classes)} label levels, {classes} classes, and {self.name} "
                f"has one without a taxonomy, {own}",
                next_step="set config.data.taxonomy (docs/data.md)",
            )
        if classes != own:
            levels = f": {', '.join(self.level_names)}" if self.taxonomy else ""
            raise UsageError(
                f"the network has {classes} classes, {self.name} has {own}{levels}",
                next_step="set the classes of config.network to the data's"
                + (", or leave config.data.taxonomy empty" if len(classes) == 1 < len(own) else ""),
            )

    def check_candidates(self, wanted: tuple[str, ...]) -> None:
        """Refuses a network that learns a choice between other operating points, or none.

        Args:
          wanted: those between which it learns to choose, as text; empty where it learns no choice.

        Raises:
          UsageError: they are not `candidates`.
        """
        check_candidates(self.candidates, wanted, self.name)


def load(config: DataConfig, split: str) -> Dataset:
    """Reads a split into memory; digits, digits_hard and CIFAR are prepared on first use.

    The validation split is carved from train, stratified by the first label level, and does
    not depend on the training seed: runs with different seeds are compared on the same images.
    Where the config names targets, "train" is the images that have one.

    Args:
      config: names the set and the validation share.
      split: "train", "validation" or "test".

    Raises:
      UsageError: unknown set or split, a set that is not prepared as array_record and cannot
        be prepared here, a download that fails, an empty split, images that are no equal-sized
        uint8, unlabelled images, images of another shape than config.image_shape, a folder that
        `read_folder` refuses, a taxonomy that is none, or not one of this set, or targets that are
        none, or of other images.
    """
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}", "one of " + ", ".join(SPLITS))
    if split == "validation" and config.validation == 0:
        raise UsageError(
            f"the validation split of {config.name} is empty: data.validation is 0",
            next_step="hold out a share of train, for example data.validation=0.1",
        )
    source = "test" if split == "test" else "train"
    data_dir = os.environ.get("TFDS_DATA_DIR")
    dataset = _read(config.name, source, config.image_shape, data_dir)
    if config.taxonomy:
        dataset = _with_levels(dataset, load_taxonomy(config.taxonomy))
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
    if config.targets and split == "train":
        targets = read_targets(config.targets)
        check_images(targets, dataset.fingerprint, config.targets)
        return _with_targets(dataset, targets)
    return dataset


@functools.lru_cache(maxsize=1)  # train and validation are asked for one after the other
def _read(name: str, split: str, image_shape: tuple[int, ...], data_dir: str | None) -> Dataset:
    """A whole source split, decoded; its arrays are shared by the callers and read-only."""
    if name.startswith(PREFIX):
        images, labels, class_names = read_folder(name, split, image_shape)
        names = {"class": class_names}
    else:
        images, labels, names = read_catalogue(name, split, data_dir)
    images.setflags(write=False)
    labels.setflags(write=False)
    own, *further = names.values()
    classes = tuple(map(len, names.values()))
    return Dataset(name, images, labels, classes, own, tuple(names), tuple(further))


def _with_levels(dataset: Dataset, taxonomy: Taxonomy) -> Dataset:
    """The set with the label levels of a taxonomy in place of its own further ones.

    Raises:
      UsageError: the taxonomy has other classes, or says something else than further labels of the
        set, which are known by a class of the same name.
    """
    taxonomy = taxonomy.of_classes(dataset.class_names)
    labels = taxonomy.labels(dataset.labels[:, 0])
    for i, (key, own) in enumerate(zip(dataset.level_names[1:], dataset.coarse_names, strict=True)):
        for level, names in enumerate(taxonomy.names[1:], start=1):
            if set(own).isdisjoint(names):
                continue
            said = np.array(own)[dataset.labels[:, i + 1]]
            wrong = np.flatnonzero(said != np.array(names)[labels[:, level]])
            if len(wrong):
                name = taxonomy.names[0][labels[wrong[0], 0]]
                raise UsageError(
                    f"the taxonomy says {names[labels[wrong[0], level]]} of {name}, and {key} of "
                    f"{dataset.name} says {said[wrong[0]]}; {len(wrong)} images differ",
                    next_step="mend the taxonomy, or give its classes names of their own",
                )
    labels.setflags(write=False)
    class_names, *coarse_names = taxonomy.names
    return dataclasses.replace(
        dataset,
        labels=labels,
        classes=taxonomy.counts,
        class_names=class_names,
        level_names=taxonomy.levels,
        coarse_names=tuple(coarse_names),
        taxonomy=taxonomy.fingerprint,
    )


def _with_targets(dataset: Dataset, targets: Targets) -> Dataset:
    """The images that have a target, which is the last of their labels."""
    # Without a taxonomy only the first level is used, and nothing may stand between.
    levels = len(dataset.classes) if dataset.taxonomy else 1
    kept = dataset.take(targets.ids)
    labels = np.column_stack([kept.labels[:, :levels], targets.targets])
    labels.setflags(write=False)
    return dataclasses.replace(
        kept,
        labels=labels,
        classes=dataset.classes[:levels],
        level_names=dataset.level_names[:levels],
        coarse_names=dataset.coarse_names[: levels - 1],
        candidates=targets.candidates,
    )
