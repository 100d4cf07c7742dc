"""Small trained networks that come with the package: arrays in an .npz, facts in a card beside it.

Tests of the laws take them as trained weights, notebooks start from them. A card is a result file
of kind `card` with one row; `python -m benchmarks.weights` makes both again.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from jax_elastic.elastic.family import Family, Variables
from jax_elastic.elastic.train_only import without_train_only
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import read_json, write_json
from jax_elastic.files import replace_file
from jax_elastic.training.checkpoint import tree_hash
from jax_elastic.training.experiment import Experiment, from_config, to_config

WEIGHTS = Path(__file__).with_name("weights")
Card = dict[str, Any]


def pretrained_names(folder: Path = WEIGHTS) -> tuple[str, ...]:
    """The names that `pretrained` takes."""
    return tuple(sorted(path.stem for path in folder.glob("*.json")))


def read_card(name: str, folder: Path = WEIGHTS) -> Card:
    """What is known of a trained network: see `write_pretrained`.

    Raises:
      UsageError: there is none of that name.
    """
    if name not in pretrained_names(folder):
        raise UsageError(
            f"there is no trained network {name!r}", "one of " + ", ".join(pretrained_names(folder))
        )
    (card,) = read_json(folder / f"{name}.json", "card")
    return card


def pretrained(name: str, folder: Path = WEIGHTS) -> tuple[Family, Variables, Experiment]:
    """A trained network that comes with the package, as `load` gives one from a workdir.

    Args:
      name: one of `pretrained_names`.
      folder: where arrays and card lie.

    Returns:
      The family, its variables on the default device, and the experiment they came from.

    Raises:
      UsageError: there is none of that name, or its file is not the one its card describes.
    """
    card = read_card(name, folder)
    path = folder / f"{name}.npz"
    data = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(data).hexdigest() != card["sha256"]:
        raise UsageError(
            f"{path} is not the file that its card describes",
            next_step=f"make it again: {card['command']}",
        )
    with np.load(io.BytesIO(data)) as arrays:
        flat = {path: jnp.asarray(arrays[path]) for path in arrays.files}
    variables: Variables = unflatten_dict(flat, sep="/")
    experiment = from_config(card["config"])
    return experiment.network, variables, experiment


def write_pretrained(
    name: str,
    experiment: Experiment,
    variables: Variables,
    rows: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
    folder: Path = WEIGHTS,
) -> Path:
    """Writes arrays and card of a trained network; the same arrays give the same bytes.

    Parts that only teach a network are left out: `hash` is that of what is written.

    Args:
      name: of the two files.
      experiment: what trained it.
      variables: its arrays.
      rows: of an evaluation on the test split.
      facts: what else the card says: the `command` that makes it again, `step`, versions.
      folder: where they go.

    Returns:
      The path of the arrays.
    """
    served = without_train_only(variables)
    flat = {path: np.asarray(leaf) for path, leaf in flatten_dict(dict(served), sep="/").items()}
    path = replace_file(folder / f"{name}.npz", _npz(flat))
    card = {
        "name": name,
        **facts,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "hash": tree_hash(served),
        "config": to_config(experiment),
        "test": list(rows),
    }
    write_json(folder / f"{name}.json", "card", [card])
    return path


def _npz(arrays: Mapping[str, Any]) -> bytes:
    """What `numpy.load` reads; unlike `numpy.savez` it writes no time of day and no order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, array in sorted(arrays.items()):
            part = io.BytesIO()
            np.save(part, array)
            entry = zipfile.ZipInfo(f"{name}.npy")
            file.writestr(entry, part.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()
