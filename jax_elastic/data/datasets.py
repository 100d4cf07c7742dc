"""A named image-classification set as arrays: of TFDS without TensorFlow, or of a folder."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jax_elastic import rng
from jax_elastic.data.catalogue import read_catalogue
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.folder import PREFIX, read_folder
from jax_elastic.data.split import held_out
from jax_elastic.data.targets import Targets, check_candidates, check_images, read_targets
from jax_elastic.data.taxonomy import Taxonomy, load_taxonomy
from jax_elastic.errors import UsageError

SPLITS = ("train", "validation", "test")


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
      candidates: operating points as text, of which the last label is the best; usually empty.
      teacher: hash of the variables by which it is the best; empty without candidates.
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
    teacher: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything but the name, as hex digits."""
        digest = hashlib.sha256(repr((self.classes, self.class_names, self.images.shape)).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        digest.update(self.taxonomy.encode())
        digest.update("\n".join(self.candidates).encode())
        digest.update(self.teacher.encode())
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
        if self.taxonomy:
            check_levels(self.name, self.classes, self.level_names, classes)
        else:
            check_levels(self.name, self.classes[:1], (), classes)

    def check_candidates(self, wanted: tuple[str, ...]) -> None:
        """Refuses a network that learns a choice between other operating points, or none.

        Args:
          wanted: those between which it learns to choose, as text; empty where it learns no choice.

        Raises:
          UsageError: they are not `candidates`.
        """
        check_candidates(self.candidates, wanted, self.name)


def check_levels(
    name: str, own: tuple[int, ...], levels: Sequence[str], classes: tuple[int, ...]
) -> None:
    """Refuses a network of other label levels than a set has, or of other classes in them.

    Args:
      name: of the set.
      own: how many classes it has in each level.
      levels: what a taxonomy calls them; empty where the set has none.
      classes: of the network, one number per label level.

    Raises:
      UsageError: they differ.
    """
    if len(classes) > len(own) == 1:
        raise UsageError(
            f"the network has {len(classes)} label levels, {classes} classes, and {name} "
            f"has one without a taxonomy, {own}",
            next_step="set config.data.taxonomy (docs/data.md)",
        )
    if classes != own:
        told = f": {', '.join(levels)}" if levels else ""
        raise UsageError(
            f"the network has {classes} classes, {name} has {own}{told}",
            next_step="set the classes of config.network to the data's"
            + (", or leave config.data.taxonomy empty" if len(classes) == 1 < len(own) else ""),
        )


def load(config: DataConfig, split: str) -> Dataset:
    """Reads a split into memory; digits, digits_hard and CIFAR are prepared on first use.

    The validation split is carved from train, stratified by the first label level, and does
    not depend on the training seed: runs with different seeds are compared on the same images.
    Targets that the config names are for `load_to_train` alone.

    Args:
      config: names the set and the validation share.
      split: "train", "validation" or "test".

    Raises:
      UsageError: unknown set or split, a set that is not prepared as array_record and cannot
        be prepared here, a download that fails, an empty split, images that are no equal-sized
        uint8, unlabelled images, images of another shape than config.image_shape, a folder that
        `read_folder` refuses, a taxonomy that is none, or not one of this set.
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
    return dataset


def load_to_train(config: DataConfig) -> Dataset:
    """Reads what is trained on: the train split, or those of its images that have a target.

    Args:
      config: see `load`; where it names targets, only images with one are there.

    Raises:
      UsageError: see `load`; or the targets are none, not finished, or of other images.
    """
    dataset = load(config, "train")
    if not config.targets:
        return dataset
    targets = read_targets(config.targets)
    check_images(targets, dataset.fingerprint, config.targets)
    return _with_targets(dataset, targets)


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
        teacher=targets.checkpoint,
    )
