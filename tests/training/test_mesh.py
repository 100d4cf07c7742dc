"""The devices of a run."""

import jax
import numpy as np
import pytest

from jax_elastic.errors import UsageError
from jax_elastic.training.mesh import check_batch_size, make_mesh, put, replicated, sharded


def test_a_mesh_has_all_devices_unless_some_are_named():
    assert make_mesh().devices.size == 8
    chosen = jax.devices()[2:5]
    assert list(make_mesh(chosen).devices) == chosen


def test_a_batch_is_spread_and_a_state_is_everywhere():
    mesh = make_mesh()
    values = np.arange(48).reshape(3, 16)
    batch, state = put(values, sharded(mesh, axis=1)), put(values, replicated(mesh))
    np.testing.assert_array_equal(batch, values)
    np.testing.assert_array_equal(state, values)
    assert {shard.data.shape for shard in batch.addressable_shards} == {(3, 2)}
    assert {shard.data.shape for shard in state.addressable_shards} == {(3, 16)}
    assert len(state.addressable_shards) == 8


@pytest.mark.parametrize("batch_size", [1, 7, 12, 129])
def test_a_batch_that_cannot_be_shared_is_refused_with_what_can(batch_size):
    with pytest.raises(UsageError) as error:
        check_batch_size(batch_size, make_mesh(), "joint")
    assert str(error.value) == (
        f"batch_size {batch_size} of phase 'joint' cannot be shared by 8 devices; a multiple of 8"
    )


def test_each_part_of_a_batch_has_to_be_shared_equally():
    with pytest.raises(UsageError, match=r"shared by 8 devices in 4 parts; a multiple of 32"):
        check_batch_size(16, make_mesh(), "joint", parts=4)
    check_batch_size(64, make_mesh(), "joint", parts=4)


@pytest.mark.parametrize("batch_size,devices", [(8, 8), (64, 8), (7, 1), (9, 3)])
def test_a_batch_that_can_be_shared_is_accepted(batch_size, devices):
    check_batch_size(batch_size, make_mesh(jax.devices()[:devices]), "joint")
