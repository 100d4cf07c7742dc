"""Result files: rows as JSON that names its schema and kind, written whole or not at all."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_elastic.errors import UsageError
from jax_elastic.files import replace_file

SCHEMA = 1

Row = Mapping[str, Any]


def write_json(path: str | os.PathLike[str], kind: str, rows: Sequence[Row]) -> None:
    """Writes ``{"schema": 1, "kind": kind, "rows": rows}``.

    Args:
      path: a file, replaced atomically, or ``-`` for standard output.
      kind: what a row is, e.g. ``eval``; `read_json` asks for it again.
      rows: values are JSON types or NumPy / JAX arrays and scalars, which become lists and numbers.

    Raises:
      ValueError: a value is NaN or infinite; nothing was written.
    """
    document = {"schema": SCHEMA, "kind": kind, "rows": list(rows)}
    text = json.dumps(document, indent=2, allow_nan=False, default=_plain) + "\n"
    if os.fspath(path) == "-":
        sys.stdout.write(text)
    else:
        replace_file(path, text.encode())


def read_json(path: str | os.PathLike[str], kind: str) -> list[dict[str, Any]]:
    """The rows of a file that `write_json` wrote.

    Raises:
      UsageError: there is no such file, it is not a result file, its schema is newer than this
        version reads, or its kind is another.
    """
    try:
        document = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if type(schema) is not int or schema < 1 or not isinstance(document.get("rows"), list):
        raise UsageError(f"{path} is not a result file", "it needs the fields schema, kind, rows")
    if schema > SCHEMA:
        raise UsageError(
            f"{path} has schema {schema}",
            f"this version of jax_elastic reads up to schema {SCHEMA}",
            "update jax_elastic",
        )
    if document.get("kind") != kind:
        raise UsageError(f"{path} holds rows of kind {document.get('kind')!r}, not {kind!r}")
    rows: list[dict[str, Any]] = document["rows"]
    return rows


def name_point(row: Row) -> str:
    """An operating point with the budget that was asked of it: ``full at budget 0.6``."""
    asked = "" if row["asked"] is None else f" at budget {row['asked']:g}"
    return f"{row['subnet']}{asked}"


def _plain(value: Any) -> Any:
    """Array or array scalar -> nested lists or a Python number."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a row holds a {type(value).__name__}, which is not JSON")
