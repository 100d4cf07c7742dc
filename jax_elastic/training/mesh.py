"""The devices of a run: one axis `data`; the batch is sharded over it, the state replicated."""

from collections.abc import Sequence

import jax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_elastic.errors import UsageError

BATCH_AXIS = "data"


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of all devices, or of those given."""
    devices = list(devices or jax.devices())
    # Explicit axes, the default, reject integer indexing of a sharded batch.
    return jax.make_mesh(
        (len(devices),), (BATCH_AXIS,), devices=devices, axis_types=(AxisType.Auto,)
    )


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds all of it."""
    return NamedSharding(mesh, P())


def sharded(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The given axis is spread over the devices."""
    return NamedSharding(mesh, P(*[None] * axis, BATCH_AXIS))


def check_batch_size(batch_size: int, mesh: Mesh, phase: str) -> None:
    """Refuses a batch that the devices cannot share equally."""
    devices = mesh.devices.size
    if batch_size % devices:
        raise UsageError(
            f"batch_size {batch_size} of phase {phase!r} cannot be shared by {devices} devices",
            f"a multiple of {devices}",
        )
