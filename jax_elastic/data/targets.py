"""Which operating point suits each training image best: a file that training only reads."""

import dataclasses
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jax_elastic.errors import UsageError, first_few
from jax_elastic.files import replace_file

SCHEMA = 1
HOW = "python -m jax_elastic targets --workdir=..."
"""How such a file is made."""
# How NumPy says of a file that it is no archive, or not one of these arrays.
_NO_TARGETS = (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile)


@dataclasses.dataclass(frozen=True, eq=False)  # arrays have no truth value to compare by
class Targets:
    """What a trained network says of training images at several operating points.

    A file that is not finished has numbers of its first m images.

    Attributes:
      ids: (n,) int32, the images' places in the train split, ascending.
      candidates: C operating points as text, cheapest first.
      checkpoint: hash of the variables that were run.
      train: fingerprint of the train split, see `Dataset`.
      probability: (m, C) float32, of the true class.
      right: (m, C) bool, whether the true class was the likeliest.
    """

    ids: npt.NDArray[np.int32]
    candidates: tuple[str, ...]
    checkpoint: str
    train: str
    probability: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]

    @staticmethod
    def begin(
        ids: npt.NDArray[np.int32], candidates: tuple[str, ...], checkpoint: str, train: str
    ) -> "Targets":
        """Those of no image yet."""
        none = (0, len(candidates))
        return Targets(
            ids, candidates, checkpoint, train, np.zeros(none, np.float32), np.zeros(none, np.bool_)
        )

    @property
    def done(self) -> int:
        """How many of the images have numbers: m."""
        return len(self.probability)

    @property
    def targets(self) -> npt.NDArray[np.int32]:
        """(m,) int32, the candidate by which the true class is likeliest.

        Of equals, to the last bit of a float32, the cheapest.

        References:
          Resizable Neural Networks (ICLR 2020 submission), RS-Adapt.
        """
        best: npt.NDArray[np.int32] = self.probability.argmax(1).astype(np.int32)
        return best

    def extended(
        self, probability: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]
    ) -> "Targets":
        """With the numbers of the next images, (k, C) each."""
        return dataclasses.replace(
            self,
            probability=np.concatenate([self.probability, probability]),
            right=np.concatenate([self.right, right]),
        )

    def differences(self, other: "Targets") -> list[str]:
        """Of what two are that differ, as words; none where one can go on as the other."""
        found = {
            "weights": self.checkpoint != other.checkpoint,
            "candidates": self.candidates != other.candidates,
            "training sets": self.train != other.train,
            "images": not np.array_equal(self.ids, other.ids),
        }
        return [name for name, differs in found.items() if differs]

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Puts them into a .npz file, whole or not at all."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {**vars(self), "candidates": np.array(self.candidates, np.str_)}
        np.savez(buffer, schema=np.int32(SCHEMA), **arrays)
        return replace_file(path, buffer.getvalue())


def read_targets(path: str | os.PathLike[str]) -> Targets:
    """What `Targets.write` wrote.

    Raises:
      UsageError: there is no such file, it is another one, or its schema is newer than this
        version reads.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = dict(arrays)
        schema = int(found.pop("schema"))
        found |= {name: str(found[name]) for name in ("checkpoint", "train")}
        found["candidates"] = tuple(map(str, found["candidates"]))
        if schema <= SCHEMA:
            return _sound(Targets(**found))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}", next_step=f"make it: {HOW}"
        ) from error
    except _NO_TARGETS as error:
        raise UsageError(f"{path} holds no targets", f"a file that this wrote: {HOW}") from error
    raise UsageError(
        f"{path} has schema {schema}",
        f"this version of jax_elastic reads up to schema {SCHEMA}",
        "update jax_elastic",
    )


def _sound(found: Targets) -> Targets:
    """The same.

    Raises:
      ValueError: the arrays do not go together.
    """
    ids, shape = found.ids, found.probability.shape
    if ids.ndim != 1 or ids.dtype.kind != "i" or ids.min(initial=0) < 0 or np.any(np.diff(ids) < 1):
        raise ValueError("ids are no ascending indices")
    if shape != (found.done, len(found.candidates)) or found.done > len(ids):
        raise ValueError(f"probabilities are of shape {shape}")
    if found.right.shape != shape or found.right.dtype != np.bool_:
        raise ValueError(f"right is of shape {found.right.shape}")
    return found


def check_images(targets: Targets, train: str, path: str) -> None:
    """Refuses targets that are not, or not all, of a training set.

    Args:
      targets: what was read.
      train: the set's fingerprint.
      path: of the file, for the error.

    Raises:
      UsageError: they are of another set, or not finished.
    """
    if targets.train != train:
        raise UsageError(
            f"data.targets={path} are of other images than the train split of this config",
            "the data of the run that they were computed for: the same data.name, image_shape, "
            "validation and taxonomy",
            f"take over those, or compute targets of this data: {HOW}",
        )
    if targets.done < len(targets.ids):
        raise UsageError(
            f"data.targets={path} has {targets.done} of {len(targets.ids)} images",
            next_step=f"start the command again that made it, which goes on: {HOW}",
        )


def check_candidates(own: tuple[str, ...], wanted: tuple[str, ...], name: str) -> None:
    """Refuses training images whose targets are not those that a network learns.

    Args:
      own: the candidates that the images' targets are of; empty where they have none.
      wanted: those between which the network learns to choose; empty where it learns no choice.
      name: of the data set.

    Raises:
      UsageError: they differ.
    """
    if own == wanted:
        return
    if not own:
        raise UsageError(
            f"the network learns which of {len(wanted)} operating points suits an image, and "
            f"{name} comes without such targets",
            next_step=f"compute them: {HOW}, and set config.data.targets",
        )
    if not wanted:
        raise UsageError(
            "config.data.targets is set, and the network learns no choice",
            next_step="leave config.data.targets empty",
        )
    raise UsageError(
        f"the targets are of the candidates {first_few(own)}, and the network has "
        f"{first_few(wanted)}",
        "the same, in the same order",
        f"set config.network.pool='{';'.join(own)}', or compute others: {HOW} --subnet="
        f"'{';'.join(wanted)}'",
    )


def check_teacher(own: str, start: str) -> None:
    """Refuses to teach a network what suits other weights than those it starts with.

    Args:
      own: hash of the variables that the targets are of; empty without targets.
      start: hash of those that a run starts from; empty where they are fresh.

    Raises:
      UsageError: they differ.
    """
    if own and own != start:
        begins = f"of {start[:8]}..." if start else "fresh"
        raise UsageError(
            f"config.data.targets are of the variables {own[:8]}..., and those that the run starts "
            f"with are {begins}",
            "the checkpoint that they were computed for, which is no longer the newest of its "
            "workdir where that run went on",
            f"compute targets of the run in config.init_from: {HOW}",
        )
