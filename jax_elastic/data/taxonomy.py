"""Taxonomies: the coarser classes that a set's classes belong to, level above level, as data.

A taxonomy is a JSON file; those of the package lie in `TAXONOMIES`:

    {"schema": 1, "kind": "taxonomy", "dataset": "cifar100", "source": "where it comes from",
     "levels": ["class", "superclass"],
     "ancestors": {"apple": ["fruit_and_vegetables"], "aquarium_fish": ["fish"], ...}}

The first level is the set's own classes; each has one ancestor in every further level. Other fields
are for readers.
"""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jax_elastic.errors import UsageError, first_few

TAXONOMIES = Path(__file__).with_name("taxonomies")
SCHEMA, KIND = 1, "taxonomy"
_FIELDS = ("schema", "kind", "dataset", "source", "levels", "ancestors")
_NEXT = "docs/taxonomies.md shows the format"


@dataclasses.dataclass(frozen=True)
class Taxonomy:
    """The classes of a set and their ancestors; valid once it is made.

    Attributes:
      dataset: the set that it was written for.
      source: where the ancestors come from.
      levels: names of the levels, finest first.
      paths: for each class its name and its ancestors', finest first: (classes, levels).

    Raises:
      UsageError: at construction: fewer than two levels, two of one name, a class that comes twice
        or has not one ancestor per level, levels that do not nest, or one of a single class.
    """

    dataset: str
    source: str
    levels: tuple[str, ...]
    paths: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if len(self.levels) < 2 or len(set(self.levels)) < len(self.levels):
            raise self._error(
                f"has the levels {', '.join(self.levels) or '(none)'}",
                "two or more, no two of one name, the set's own classes first",
            )
        further = len(self.levels) - 1
        if wrong := [
            f"{own} has {len(above)}" for own, *above in self.paths if len(above) != further
        ]:
            raise self._error(
                f"has wrong numbers of ancestors: {first_few(wrong)}",
                f"one for each of {', '.join(self.levels[1:])}",
            )
        times = collections.Counter(own for own, *_ in self.paths)
        if repeated := [own for own in times if times[own] > 1]:
            raise self._error(f"has {first_few(repeated)} more than once", "each class once")
        for level in range(1, further):
            self._check_nests(level)
        for name, count in zip(self.levels, self.counts, strict=True):
            if count < 2:
                raise self._error(f"has {count} classes at level {name}", "two or more")

    def _check_nests(self, level: int) -> None:
        """Refuses classes that share an ancestor at a level and not at the next one."""
        above: dict[str, set[str]] = {}
        for path in self.paths:
            above.setdefault(path[level], set()).add(path[level + 1])
        if parted := [name for name, found in above.items() if len(found) > 1]:
            told = [f"{name} lies in {' and '.join(sorted(above[name]))}" for name in parted]
            raise self._error(
                f"does not nest at level {self.levels[level + 1]}: {first_few(told)}",
                "classes that share an ancestor share those above it, too",
            )

    def _error(self, what: str, allowed: str) -> UsageError:
        return UsageError(f"the taxonomy of {self.dataset} {what}", allowed, _NEXT)

    @property
    def names(self) -> tuple[tuple[str, ...], ...]:
        """The classes of each level: the first in their order, the others sorted."""
        own, *further = zip(*self.paths, strict=True)
        return (own, *(tuple(sorted(set(level))) for level in further))

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of classes of each level."""
        return tuple(map(len, self.names))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of levels and ancestors, as hex digits."""
        return hashlib.sha256(repr((self.levels, self.paths)).encode()).hexdigest()

    def of_classes(self, class_names: Sequence[str]) -> "Taxonomy":
        """The same with its classes in the order of a set.

        Where a set only numbers its classes, the order of the taxonomy is taken for theirs.

        Args:
          class_names: of the set.

        Raises:
          UsageError: the set has other classes.
        """
        own = {path[0]: path for path in self.paths}
        numbers = tuple(map(str, range(len(self.paths))))
        if tuple(class_names) == numbers and not set(numbers) & set(own):
            return self
        missing = [name for name in class_names if name not in own]
        unknown = [name for name in own if name not in set(class_names)]
        if missing or unknown:
            told = [f"has no {first_few(missing)}"] if missing else []
            told += [f"has {first_few(unknown)}, which the set lacks"] if unknown else []
            raise self._error("; it ".join(told), "the classes of the set, by their names")
        return dataclasses.replace(self, paths=tuple(own[name] for name in class_names))

    def labels(self, classes: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
        """Labels of all levels from those of the first: (N,) -> (N, levels)."""
        places = [{name: i for i, name in enumerate(level)} for level in self.names]
        rows = [
            [place[name] for place, name in zip(places, path, strict=True)] for path in self.paths
        ]
        found: npt.NDArray[np.int32] = np.array(rows, np.int32)[classes]
        return found


def taxonomy_names(folder: Path = TAXONOMIES) -> tuple[str, ...]:
    """The taxonomies of the package."""
    return tuple(sorted(path.stem for path in folder.glob("*.json")))


def load_taxonomy(name: str) -> Taxonomy:
    """Reads a taxonomy.

    Args:
      name: one of `taxonomy_names`, or the path of a file that ends in ``.json``.

    Raises:
      UsageError: no such taxonomy, no file of this format, or one that `Taxonomy` refuses.
    """
    path = Path(name).expanduser()
    if path.suffix != ".json":
        if name not in taxonomy_names():
            raise UsageError(
                f"there is no taxonomy {name!r}",
                f"one of {', '.join(taxonomy_names())}, or the path of a .json file of your own",
            )
        path = TAXONOMIES / f"{name}.json"
    document = _read(path)
    levels, ancestors = document["levels"], document["ancestors"]
    if not _are_names(levels) or not isinstance(ancestors, dict) or not ancestors:
        raise UsageError(f"{path} has no list of levels, or no group of ancestors", None, _NEXT)
    if odd := [own for own, above in ancestors.items() if not _are_names(above)]:
        raise UsageError(
            f"{path}: ancestors that are no list of names: {first_few(odd)}", None, _NEXT
        )
    return Taxonomy(
        dataset=str(document["dataset"]),
        source=str(document["source"]),
        levels=tuple(levels),
        paths=tuple((own, *above) for own, above in ancestors.items()),
    )


def _read(path: Path) -> dict[str, Any]:
    """The fields of a taxonomy's file."""
    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=_once)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise UsageError(f"{path} is no taxonomy", f"a file of kind {KIND!r}", _NEXT)
    if document.get("schema") != SCHEMA:
        raise UsageError(
            f"{path} has schema {document.get('schema')!r}", f"this version reads {SCHEMA}", _NEXT
        )
    if lacking := [field for field in _FIELDS if field not in document]:
        raise UsageError(f"{path} lacks {', '.join(lacking)}", None, _NEXT)
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, whose later keys would else replace earlier ones of the same name."""
    times = collections.Counter(key for key, _ in pairs)
    if repeated := [key for key in times if times[key] > 1]:
        raise ValueError(f"{first_few(repeated)} more than once")
    return dict(pairs)


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) and name for name in names)
