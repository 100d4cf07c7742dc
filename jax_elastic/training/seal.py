"""Seals: a directory holds the SHA-256 of each of its files, so that any change is seen.

`SHA256SUMS` has the form of the command of that name, which checks it too (``sha256sum --check
SHA256SUMS``). Its last line, a comment there, is the hash of the lines above it.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from orbax.checkpoint.path import atomicity

from jax_elastic.files import replace_file

SEAL = "SHA256SUMS"


def seal(directory: Path) -> None:
    """Writes the seal of a directory whose files will not change any more."""
    paths = sorted(path for path in directory.rglob("*") if path.is_file())
    lines = [f"{_hash(path)}  {path.relative_to(directory).as_posix()}\n" for path in paths]
    body = "".join(lines).encode()
    replace_file(directory / SEAL, body + _last_line(body))


def read_seal(directory: Path) -> dict[str, str]:
    """Path of each sealed file, relative with ``/`` -> its hash; empty if there is no seal.

    Raises:
      ValueError: the seal itself was changed.
    """
    path = directory / SEAL
    if not path.exists():
        return {}
    *lines, last = path.read_bytes().splitlines(keepends=True) or [b""]
    if last != _last_line(b"".join(lines)):
        raise ValueError(f"{SEAL} has changed")
    pairs = [line.decode().removesuffix("\n").split("  ", 1) for line in lines]
    return {name: digest for digest, name in pairs}


def changes(directory: Path, sums: Mapping[str, str]) -> list[str]:
    """What is not as `sums`, from `read_seal`, has it, e.g. ``["meta/metadata is missing"]``."""
    found = []
    for name, digest in sums.items():
        path = directory / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif _hash(path) != digest:
            found.append(f"{name} has changed")
    return found


class SealedPath(atomicity.AtomicRenameTemporaryPath):  # type: ignore[misc]  # Any to mypy
    """Orbax's way to complete a directory, by renaming it, with a seal for those of steps.

    That is done in the thread that saves and on the first process alone, before the other
    processes are told that the step is complete and before older steps are deleted.
    """

    async def finalize(self) -> None:
        """Completes the directory."""
        await super().finalize()
        if self.get_final().name.isdecimal():  # the items of a step come here too
            seal(Path(self.get_final()))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _last_line(body: bytes) -> bytes:
    return f"# {hashlib.sha256(body).hexdigest()}\n".encode()
