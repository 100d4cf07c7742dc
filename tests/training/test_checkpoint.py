"""Checkpoints: what is restored is what was saved, and damage is seen."""

import json
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from jax_elastic.errors import UsageError
from jax_elastic.training.checkpoint import Checkpoints, abstract, tree_hash
from jax_elastic.training.mesh import make_mesh, replicated

ONE_DEVICE = SingleDeviceSharding(jax.devices()[0])


def items(seed=0):
    """Every kind of leaf that a state has: matrices, scalars, counters, bfloat16, extremes."""
    key = jax.random.key(seed)
    weights = jax.random.normal(key, (64, 32)).at[0, :4].set(jnp.array([jnp.inf, -0.0, 1e-45, 0]))
    return {
        "variables": {
            "params": {"a": {"kernel": weights}, "b": jnp.bfloat16(1 / 3)},
            "stats": {"count": jnp.int32(7)},
        },
        "opt_state": (jnp.zeros(3), {"a": jax.random.bits(key, (5,))}),
    }


def targets(tree, place=ONE_DEVICE):
    return lambda meta: abstract(tree, place)


def save(directory, steps, keep=3):
    with Checkpoints(directory, keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, items(step), {"phase": step})


def restore(directory, tree=None, **place):
    with Checkpoints(directory) as checkpoints:
        return checkpoints.restore(targets(items() if tree is None else tree, **place))


def arrays(directory, step, item="variables"):
    """The data file that holds the arrays of one item: the largest one."""
    files = [path for path in (directory / str(step) / item).rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def listing(directory):
    return {path: path.stat().st_size for path in directory.rglob("*") if path.is_file()}


def test_what_is_restored_has_the_bits_that_were_saved(tmp_path):
    save(tmp_path, [5])
    found, meta = restore(tmp_path)
    # Bytes, because -0.0 and the smallest subnormal compare equal to 0 under XLA.
    assert tree_hash(found) == tree_hash(items(5))
    chex.assert_trees_all_equal_dtypes(found, items(5))
    assert (meta["step"], meta["phase"]) == (5, 5)


def test_an_empty_directory_has_nothing_to_restore(tmp_path):
    assert restore(tmp_path / "new") is None


def test_items_that_are_not_asked_for_are_not_read(tmp_path):
    save(tmp_path, [1])
    arrays(tmp_path, 1, "opt_state").write_bytes(b"")
    found, _ = restore(tmp_path, {"variables": items()["variables"]})
    chex.assert_trees_all_equal(found, {"variables": items(1)["variables"]})


@pytest.mark.parametrize("item", ["variables", "opt_state"])
def test_a_flipped_bit_is_named_and_the_checkpoint_before_is_taken(tmp_path, item):
    save(tmp_path, [1, 2])
    flip_a_bit(arrays(tmp_path, 2, item))
    with pytest.warns(UserWarning, match="checkpoint 2 is damaged and skipped"):
        found, meta = restore(tmp_path)
    assert meta["step"] == 1
    chex.assert_trees_all_equal(found, items(1))


def test_a_value_that_changed_in_a_readable_file_is_found_by_its_hash(tmp_path):
    save(tmp_path, [1, 2])
    path = tmp_path / "2" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    meta["hashes"]["variables"] = tree_hash(items(1)["variables"])
    path.write_text(json.dumps(meta))
    with pytest.warns(UserWarning, match="2 is damaged.* variables does not have the hash"):
        _, meta = restore(tmp_path)
    assert meta["step"] == 1


@pytest.mark.parametrize("lost", ["variables", "opt_state", "meta"])
def test_an_emptied_item_is_damage_too(tmp_path, lost):
    save(tmp_path, [1, 2])
    for path in listing(tmp_path / "2" / lost):
        path.write_bytes(b"")
    with pytest.warns(UserWarning, match="checkpoint 2 is damaged"):
        _, meta = restore(tmp_path)
    assert meta["step"] == 1


def test_where_no_checkpoint_is_whole_it_is_said_and_nothing_is_deleted(tmp_path):
    save(tmp_path, [1, 2])
    flip_a_bit(arrays(tmp_path, 1))
    flip_a_bit(arrays(tmp_path, 2))
    before = listing(tmp_path)
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(UsageError, match=r"no checkpoint in .* is whole; restore the directory"),
    ):
        restore(tmp_path)
    assert listing(tmp_path) == before


def test_a_damaged_step_can_be_saved_again(tmp_path):
    save(tmp_path, [1, 2])
    flip_a_bit(arrays(tmp_path, 2))
    with (
        pytest.warns(UserWarning, match="checkpoint 2 is damaged"),
        Checkpoints(tmp_path) as checkpoints,
    ):
        checkpoints.restore(targets(items()))
        checkpoints.save(2, items(22), {})
    found, meta = restore(tmp_path)
    assert meta["step"] == 2
    chex.assert_trees_all_equal(found, items(22))


def test_a_checkpoint_of_a_newer_version_is_refused_by_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr("jax_elastic.training.checkpoint.SCHEMA", 99)
    save(tmp_path, [1])
    with pytest.raises(
        UsageError, match=r"checkpoint 1 has schema 99, newer .* update jax_elastic"
    ):
        restore(tmp_path)


def other_network():
    tree = items()
    tree["variables"]["params"] = {"a": {"kernel": jnp.zeros((64, 31))}, "c": jnp.zeros(2)}
    return tree


def test_a_checkpoint_of_another_network_is_refused_leaf_by_leaf(tmp_path):
    save(tmp_path, [1])
    before = listing(tmp_path)
    with pytest.raises(UsageError) as error:
        restore(tmp_path, other_network())
    assert "checkpoint 1" in str(error.value)
    assert "params/c is missing" in str(error.value)
    assert "params/b is not in the network" in str(error.value)
    assert "params/a/kernel is float32[64, 32], not float32[64, 31]" in str(error.value)
    assert "use the config it was trained with" in str(error.value)
    assert listing(tmp_path) == before


def test_another_dtype_is_another_network(tmp_path):
    save(tmp_path, [1])
    tree = items()
    tree["variables"]["stats"]["count"] = jnp.float32(7)
    with pytest.raises(UsageError, match=r"stats/count is int32\[\], not float32\[\]"):
        restore(tmp_path, tree)


def test_the_state_may_be_donated_right_after_it_is_saved(tmp_path):
    spoil = jax.jit(lambda tree: jax.tree.map(lambda a: a * 0 - 1, tree), donate_argnums=0)
    big = {"variables": {"kernel": jnp.arange(1 << 20, dtype=jnp.float32)}}
    expected = tree_hash(big)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, big, {})
        spoilt = spoil(big)
        assert big["variables"]["kernel"].is_deleted()
        jax.block_until_ready(spoilt)
    found, _ = restore(tmp_path, spoilt)
    assert tree_hash(found) == expected


def test_the_newest_checkpoints_are_kept(tmp_path):
    save(tmp_path, [1, 2, 3, 4], keep=2)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.isdigit()) == ["3", "4"]
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest == 4


def test_a_checkpoint_of_one_device_is_restored_onto_eight(tmp_path):
    save(tmp_path, [1])
    everywhere = replicated(make_mesh())
    found, _ = restore(tmp_path, place=everywhere)
    chex.assert_trees_all_equal(found, items(1))
    kernel = found["variables"]["params"]["a"]["kernel"]
    assert len(kernel.devices()) == 8
    assert kernel.sharding.is_equivalent_to(everywhere, kernel.ndim)


def test_a_checkpoint_of_eight_devices_is_restored_onto_one(tmp_path):
    spread = jax.device_put(items(1), replicated(make_mesh()))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, spread, {})
    found, _ = restore(tmp_path)
    chex.assert_trees_all_equal(found, items(1))
    assert all(leaf.devices() == {jax.devices()[0]} for leaf in jax.tree.leaves(found))


def test_wait_returns_when_the_checkpoint_lies_on_disk(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1), {})
        checkpoints.wait()
        found, _ = restore(tmp_path)
    chex.assert_trees_all_equal(found, items(1))


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.zeros(2, np.float32), "b": np.ones(2, np.float32)},
        {"a": np.ones(2, np.float32), "c": np.zeros(2, np.float32)},
        {"a": np.ones(2, np.int32), "b": np.zeros(2, np.float32)},
        {"a": np.ones((2, 1), np.float32), "b": np.zeros(2, np.float32)},
        {"a": np.ones(2, np.float32), "b": -np.zeros(2, np.float32)},
    ],
    ids=["swapped values", "name", "dtype", "shape", "sign of zero"],
)
def test_a_hash_depends_on_every_property_of_every_leaf(other):
    tree = {"a": np.ones(2, np.float32), "b": np.zeros(2, np.float32)}
    assert tree_hash(tree) != tree_hash(other)
    assert tree_hash(tree) == tree_hash(jax.tree.map(jnp.asarray, tree))


def test_an_intact_directory_is_restored_without_a_warning(tmp_path):
    save(tmp_path, [1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, meta = restore(tmp_path)
    assert meta["step"] == 2
