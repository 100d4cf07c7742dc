"""Files that are written whole or not at all."""

import os
import uuid
from pathlib import Path


def replace_file(path: str | os.PathLike[str], data: bytes) -> Path:
    """Puts `data` at `path` in one step: a reader sees the old file or the new one, never a part.

    Returns:
      The path; its folder is made where it was missing.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, because a rename is atomic only within one file system.
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        partial.write_bytes(data)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target
