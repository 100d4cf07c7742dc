"""Several processes that train one network together: who writes, and how they agree.

Every process runs the same program on its own devices; JAX makes one mesh of all of them. What a
process decides must be decided alike by all, or they wait for each other for ever.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def is_first() -> bool:
    """Whether this process is the one that writes files and talks to the terminal."""
    return jax.process_index() == 0


def say(line: str) -> None:
    """Prints a line at once, also into a pipe, so that a kill loses nothing."""
    print(line, flush=True)


def silent(line: str) -> None:
    """Says nothing, where another process does."""
    del line


def agree(numbers: Sequence[float]) -> list[float]:
    """The first process's numbers, bit for bit, in all of them; collective."""
    # As bytes: without x64 mode the devices would round them to float32.
    own = np.frombuffer(np.asarray(numbers, np.float64).tobytes(), np.uint8)
    if jax.process_count() == 1 or not len(own):
        return list(numbers)
    agreed = np.asarray(multihost_utils.broadcast_one_to_all(own))
    return [float(number) for number in np.frombuffer(agreed.tobytes(), np.float64)]


def any_of(asked: bool) -> bool:
    """Whether at least one process asks; collective."""
    return first_with(asked) is not None


def first_with(asked: bool) -> int | None:
    """The first process that asks, None if none does; collective."""
    if jax.process_count() == 1:
        return 0 if asked else None
    found = np.flatnonzero(multihost_utils.process_allgather(np.bool_(asked)))
    return int(found[0]) if found.size else None


def wait_for_all(name: str) -> None:
    """Returns when all processes are here; `name` says where, for errors."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def local(tree: Any) -> Any:
    """The copy of replicated arrays that lies on this process's first device."""
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)
