"""The devices of a run: one axis `data`; the batch is sharded over it, the state replicated."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from jax.sharding import AxisType, Mesh, NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

from jax_elastic.errors import UsageError

BATCH_AXIS = "data"


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of all devices of all processes, or of those given."""
    devices = list(devices or jax.devices())
    # Explicit axes, the default, reject integer indexing of a sharded batch.
    return jax.make_mesh(
        (len(devices),), (BATCH_AXIS,), devices=devices, axis_types=(AxisType.Auto,)
    )


def platform_of(mesh: Mesh) -> str:
    """What its devices are, e.g. ``cpu``."""
    return str(mesh.devices.flat[0].platform)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds all of it."""
    return NamedSharding(mesh, P())


def sharded(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The given axis is spread over the devices."""
    return NamedSharding(mesh, P(*[None] * axis, BATCH_AXIS))


def put(array: npt.NDArray[Any] | np.generic, sharding: Sharding) -> jax.Array:
    """An array of the host on the devices; each process gives its devices what they hold of it.

    Args:
      array: the same in every process, or at least what this one's devices hold.
      sharding: of the result.
    """
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def check_batch_size(batch_size: int, mesh: Mesh, phase: str, parts: int = 1) -> None:
    """Refuses a batch that the devices cannot share equally, in `parts` one after the other."""
    devices = mesh.devices.size
    if batch_size % (devices * parts):
        in_parts = f" in {parts} parts" if parts > 1 else ""
        raise UsageError(
            f"batch_size {batch_size} of phase {phase!r} cannot be shared by "
            f"{devices} devices{in_parts}",
            f"a multiple of {devices * parts}",
        )
