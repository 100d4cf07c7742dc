"""Checkpoints that prove themselves: what is restored is what was saved, or it is said.

A directory per step, written by Orbax in the background: one item per tree of arrays
(`variables`, `opt_state`), and `meta`, a small JSON with schema, step, phase, and of every item
its hash and the shape and dtype of its leaves. Once it is complete the directory is sealed with
the hash of every file. The files are compared with the seal before they are read, and the arrays
with their hashes afterwards. Only the second is done where there is no seal: in checkpoints of
older versions, and where a kill came just before it.

Until it is complete, a step lies in a directory of another name. What a kill leaves of it is
never read; the next save removes it.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.path import atomicity

from jax_elastic.errors import UsageError, first_few
from jax_elastic.training.experiment import check_schema
from jax_elastic.training.processes import first_with, is_first
from jax_elastic.training.seal import SealedPath, changes, read_seal

T = TypeVar("T")
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


def abstract(items: Items, place: jax.sharding.Sharding) -> Items:
    """Arrays or their shapes as ShapeDtypeStructs at `place`: what `restore` wants."""
    return jax.tree.map(  # type: ignore[no-any-return]
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), items
    )


class Checkpoints:
    """The checkpoints of one run; a context manager, so that the last save is always finished.

    Where there are several processes, all of them make it and call each of its methods.

    Args:
      directory: where they lie, on a file system that all processes share; made if it is not
        there. Each directory may have one in the same process.
      keep: how many of the newest are kept, not counting damaged ones.
    """

    def __init__(self, directory: Path, keep: int = 3):
        self._directory = directory
        self._damaged: set[int] = set()  # what `restore` found, the same on all processes
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            # Deprecated, for the names of directories can be chosen in another way by now; but
            # there is no other hook after the rename.
            temporary_path_class=SealedPath,
            # Else it reads the metadata of all steps at once, and fails where they are damaged.
            lightweight_initialize=True,
            # Several in one process would meet at each other's barriers.
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                barrier_sync_key_prefix=directory.name
            ),
        )
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
        """The newest saved step that `restore` did not find damaged; None if there is none."""
        return max(set(self._manager.all_steps()) - self._damaged, default=None)

    def finished(self) -> int | None:
        """The newest step that lies on disk, once the last save is done."""
        self.wait()
        return self.latest

    def save(self, step: int, items: Items, meta: Meta) -> None:
        """Saves in the background; returns once the arrays are copied and hashed.

        Removes first what `restore` found damaged and what saves that were killed have left.

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
        self._make_room(step)
        meta_item = ocp.args.JsonSave(full)
        if not self._manager.save(step, args=ocp.args.Composite(meta=meta_item, **arrays)):
            raise RuntimeError(f"Orbax refused to save step {step} in {self._directory}")

    def _make_room(self, step: int) -> None:
        """Removes what is of no use to a run that is about to save `step`."""
        self.wait()  # so that what is unfinished is so for ever
        # Before the damaged ones: in their stead Orbax would delete what is unfinished.
        if is_first():
            for _, path in self._unfinished():
                shutil.rmtree(path)
        # Only damaged ones can be as new as `step`; Orbax would silently keep them.
        for old in self._manager.all_steps():
            if old >= step or old in self._damaged:
                self._manager.delete(old)
        self._damaged.clear()

    def wait(self) -> None:
        """Returns when the last save lies on disk."""
        self._manager.wait_until_finished()

    def restore(self, targets: Callable[[Meta], Items]) -> tuple[Items, Meta] | None:
        """The newest checkpoint whose items are whole; newer ones are named in warnings.

        Nothing is deleted. Several processes restore the same step: one that is damaged to any
        of them is damaged.

        Args:
          targets: from a checkpoint's meta, the items to restore as trees of ShapeDtypeStructs
            with shardings; any number of devices will do. Other items are not read.

        Returns:
          (items, meta), or None if no checkpoint was ever completed.

        Raises:
          UsageError: checkpoints are there but none is whole, one is of a newer schema, or one
            is of another network.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        if is_first():
            for step, _ in self._unfinished():
                if step > max(steps, default=-1):
                    told = f"checkpoint {step} is unfinished and skipped"
                    warnings.warn(told, stacklevel=2)
        for step in steps:
            # All processes must agree to read: while Orbax does so they wait for each other.
            checked = self._unless_damaged(step, partial(self._check_files, step, targets))
            if checked is None:
                continue
            meta, wanted = checked
            items = self._unless_damaged(step, partial(self._read_arrays, step, meta, wanted))
            if items is not None:
                return items, meta
        if steps:
            raise UsageError(
                f"no checkpoint in {self._directory} is whole",
                next_step="restore the directory from a copy, or start again in another workdir",
            )
        return None

    def _unless_damaged(self, step: int, read: Callable[[], T]) -> T | None:
        """What `read` gives; None, and one warning, if it finds damage on any process."""
        found, reason = None, ""
        try:
            found = read()
        except (UsageError, MemoryError):
            raise
        # Orbax, TensorStore and the file system each have errors of their own for damage.
        except Exception as error:
            kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
            reason = kind + str(error).partition("\n")[0]
        process = first_with(bool(reason))
        if process is None:
            return found
        self._damaged.add(step)
        if process == jax.process_index():
            warnings.warn(f"checkpoint {step} is damaged and skipped: {reason}", stacklevel=3)
        return None

    def _check_files(self, step: int, targets: Callable[[Meta], Items]) -> tuple[Meta, Items]:
        """The meta of a step, and which items to restore, whose files are as they were sealed."""
        directory = self._directory / str(step)
        sums = read_seal(directory)

        def check(items: Sequence[str]) -> None:
            found = changes(directory, {p: s for p, s in sums.items() if _item_of(p) in items})
            if found:
                raise ValueError(first_few(found))

        check(["", "meta"])
        meta = read_meta(directory)
        check_schema(meta.get("schema"), f"checkpoint {step}")
        wanted = targets(meta)
        check(list(wanted))
        for name, tree in wanted.items():
            _check_shapes(meta["leaves"][name], tree, f"checkpoint {step} in {self._directory}")
        return meta, wanted

    def _read_arrays(self, step: int, meta: Meta, wanted: Items) -> Items:
        arrays = {name: ocp.args.StandardRestore(tree) for name, tree in wanted.items()}
        restored = self._manager.restore(step, args=ocp.args.Composite(**arrays))
        items = {name: restored[name] for name in wanted}
        for name, tree in items.items():
            if tree_hash(tree) != meta["hashes"][name]:
                raise ValueError(f"{name} does not have the hash that was stored")
        return items

    def _unfinished(self) -> list[tuple[int, Path]]:
        """(step, directory) of what was not completed, the newest first."""
        suffix = atomicity.TMP_DIR_SUFFIX
        paths = self._directory.glob(f"*{suffix}*")
        named = [(path.name.partition(suffix)[0], path) for path in paths]
        return sorted(((int(name), path) for name, path in named if name.isdecimal()), reverse=True)


def read_meta(directory: Path) -> Meta:
    """What `Checkpoints.save` stored beside the arrays of a step.

    Args:
      directory: of the step.

    Raises:
      OSError: it has none.
      ValueError: it is damaged.
    """
    # Not by Orbax, which lets processes wait for each other.
    try:
        meta = json.loads((directory / "meta" / "metadata").read_bytes())
    except ValueError as error:
        raise ValueError(f"meta/metadata is not JSON: {error}") from None
    if not isinstance(meta, dict):
        raise ValueError("meta/metadata is no JSON object")
    return meta


def _item_of(path: str) -> str:
    """The item that a file of a step belongs to; empty for those of the step itself."""
    first, slash, _ = path.partition("/")
    return first if slash else ""


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
