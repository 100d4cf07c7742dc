"""Checkpoints that prove themselves: a hash of every array is stored and checked on restore.

A directory per step, written by Orbax in the background: one item per tree of arrays
(`variables`, `opt_state`), and `meta`, a small JSON with schema, step, phase, and of every item
its hash and the shape and dtype of its leaves.
"""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jax_elastic.errors import UsageError
from jax_elastic.training.experiment import check_schema

PyTree = Any
Meta = dict[str, Any]
Items = dict[str, PyTree]

SCHEMA = 1


def tree_hash(tree: PyTree) -> str:
    """SHA-256 over paths, dtypes, shapes and bytes of all leaves, as hex digits."""
    digest = hashlib.sha256()
    for path, leaf in leaves_by_path(tree).items():
        array = np.asarray(leaf)
        digest.update(f"{path} {array.dtype} {array.shape} ".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def leaves_by_path(tree: PyTree) -> dict[str, Any]:
    """Path -> leaf, e.g. ``params/stem/conv/kernel``, in the order of `jax.tree.leaves`."""
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in pairs}


def shapes_by_path(tree: PyTree) -> dict[str, str]:
    """Path -> dtype and shape of its leaf, e.g. ``float32[3, 3, 1, 4]``."""
    return {path: f"{leaf.dtype}{list(leaf.shape)}" for path, leaf in leaves_by_path(tree).items()}


def first_few(found: Sequence[str]) -> str:
    """A list for a message: the first five, and how many more there are."""
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ", ".join(found[:5]) + more


def abstract(items: Items, place: jax.sharding.Sharding) -> Items:
    """Arrays or their shapes as ShapeDtypeStructs at `place`: what `restore` wants."""
    return jax.tree.map(  # type: ignore[no-any-return]
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), items
    )


class Checkpoints:
    """The checkpoints of one run; a context manager, so that the last save is always finished.

    Args:
      directory: where they lie; made if it is not there.
      keep: how many of the newest are kept.
    """

    def __init__(self, directory: Path, keep: int = 3):
        self._directory = directory
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._manager.close()

    @property
    def latest(self) -> int | None:
        """The newest saved step; None if there is none."""
        steps = self._manager.all_steps()
        return max(steps) if steps else None

    def finished(self) -> int | None:
        """The newest step that lies on disk, once the last save is done."""
        self.wait()
        return self.latest

    def save(self, step: int, items: Items, meta: Meta) -> None:
        """Saves in the background; returns once the arrays are copied and hashed.

        Args:
          step: names the checkpoint.
          items: trees of concrete arrays, which may be donated right after.
          meta: JSON values to store beside them, e.g. the phase.
        """
        # A copy: the next step donates these buffers while Orbax may still read them.
        copied = jax.tree.map(jnp.copy, items)
        full = {
            "schema": SCHEMA,
            "step": step,
            **meta,
            "hashes": {name: tree_hash(tree) for name, tree in copied.items()},
            "leaves": {name: shapes_by_path(tree) for name, tree in copied.items()},
        }
        arrays = {name: ocp.args.StandardSave(tree) for name, tree in copied.items()}
        # Only damaged ones, skipped by `restore`, can be there; Orbax would silently keep them.
        for damaged in [old for old in self._manager.all_steps() if old >= step]:
            self._manager.delete(damaged)
        meta_item = ocp.args.JsonSave(full)
        if not self._manager.save(step, args=ocp.args.Composite(meta=meta_item, **arrays)):
            raise RuntimeError(f"Orbax refused to save step {step} in {self._directory}")

    def wait(self) -> None:
        """Returns when the last save lies on disk."""
        self._manager.wait_until_finished()

    def restore(self, targets: Callable[[Meta], Items]) -> tuple[Items, Meta] | None:
        """The newest checkpoint whose items are whole.

        Args:
          targets: from a checkpoint's meta, the items to restore as trees of ShapeDtypeStructs
            with shardings; any number of devices will do. Other items are not read.

        Returns:
          (items, meta), or None if there is no checkpoint at all.

        Raises:
          UsageError: checkpoints are there but none is whole, one is of a newer schema, or one
            is of another network.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return self._restore_step(step, targets)
            except (UsageError, MemoryError):
                raise
            # Orbax, TensorStore and the file system each have errors of their own for damage.
            except Exception as error:
                reason = str(error).partition("\n")[0]
                warnings.warn(f"checkpoint {step} is damaged and skipped: {reason}", stacklevel=2)
        if steps:
            raise UsageError(
                f"no checkpoint in {self._directory} is whole",
                next_step="restore the directory from a copy, or start again in another workdir",
            )
        return None

    def _restore_step(self, step: int, targets: Callable[[Meta], Items]) -> tuple[Items, Meta]:
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        meta: Meta = self._manager.restore(step, args=args)["meta"]
        check_schema(meta.get("schema"), f"checkpoint {step}")
        wanted = targets(meta)
        for name, tree in wanted.items():
            _check_shapes(meta["leaves"][name], tree, f"checkpoint {step} in {self._directory}")
        arrays = {name: ocp.args.StandardRestore(tree) for name, tree in wanted.items()}
        restored = self._manager.restore(step, args=ocp.args.Composite(**arrays))
        items = {name: restored[name] for name in wanted}
        for name, tree in items.items():
            if tree_hash(tree) != meta["hashes"][name]:
                raise ValueError(f"{name} does not have the hash that was stored")
        return items, meta


def _check_shapes(stored: dict[str, str], wanted: PyTree, what: str) -> None:
    """Names what a checkpoint lacks, what it has too much, and what has another shape."""
    own = shapes_by_path(wanted)
    found = [f"{path} is missing" for path in own if path not in stored]
    found += [f"{path} is not in the network" for path in stored if path not in own]
    found += [
        f"{path} is {stored[path]}, not {own[path]}"
        for path in own
        if path in stored and stored[path] != own[path]
    ]
    if found:
        raise UsageError(
            f"{what} is of another network: {first_few(found)}",
            next_step="use the config it was trained with",
        )
