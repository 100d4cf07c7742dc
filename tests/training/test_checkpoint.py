"""Checkpoints: what is restored is what was saved, and damage is seen."""

import json
import shutil
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
from jax_elastic.training.seal import SEAL, seal

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


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Steps 1 and 2, saved once for the tests that harm a copy."""
    directory = tmp_path_factory.mktemp("original")
    save(directory, [1, 2])
    return directory


@pytest.fixture
def saved(original, tmp_path):
    return shutil.copytree(original, tmp_path / "saved")


@pytest.fixture
def unsealed(saved):
    """As a version without seals left it, or a kill just before them."""
    for step in ("1", "2"):
        (saved / step / SEAL).unlink()
    return saved


def arrays(step, item="variables"):
    """The data file that holds the arrays of one item: the largest one."""
    files = [path for path in (step / item / "d").iterdir() if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path, bit=None):
    data = bytearray(path.read_bytes())
    bit = len(data) // 2 * 8 if bit is None else bit
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def listing(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def steps(directory):
    return sorted(path.name for path in directory.iterdir())


# Name -> (what is done to a step's directory, what the warning says).
HARM = {
    "an array cut off": (lambda step: cut(arrays(step)), "variables/d/.* has changed"),
    "an array emptied": (lambda step: arrays(step).write_bytes(b""), "variables/d/.* has changed"),
    "an array gone": (lambda step: arrays(step).unlink(), "variables/d/.* is missing"),
    "an item gone": (
        lambda step: shutil.rmtree(step / "opt_state"),
        "opt_state/_METADATA is missing, .* and [0-9]+ more",
    ),
    "an item's metadata gone": (
        lambda step: (step / "variables" / "_METADATA").unlink(),
        "variables/_METADATA is missing",
    ),
    "an item's metadata cut off": (
        lambda step: cut(step / "variables" / "_METADATA"),
        "variables/_METADATA has changed",
    ),
    "the index of arrays cut off": (
        lambda step: cut(step / "opt_state" / "manifest.ocdbt"),
        "opt_state/manifest.ocdbt has changed",
    ),
    "meta gone": (lambda step: shutil.rmtree(step / "meta"), "meta/.* meta/metadata is missing"),
    "meta emptied": (
        lambda step: (step / "meta" / "metadata").write_bytes(b""),
        "meta/metadata has changed",
    ),
    "the step's metadata gone": (
        lambda step: (step / "_CHECKPOINT_METADATA").unlink(),
        "_CHECKPOINT_METADATA is missing",
    ),
    "the step's metadata of another type": (
        lambda step: (step / "_CHECKPOINT_METADATA").write_text("[]"),
        "_CHECKPOINT_METADATA has changed",
    ),
    "the seal cut off": (lambda step: cut(step / SEAL), f"{SEAL} has changed"),
    "all files gone": (
        lambda step: (shutil.rmtree(step), step.mkdir()),
        "FileNotFoundError: .*/2/meta/metadata",
    ),
}
harmed = pytest.mark.parametrize(("harm", "said"), HARM.values(), ids=HARM)


def test_what_is_restored_has_the_bits_that_were_saved(tmp_path):
    save(tmp_path, [5])
    found, meta = restore(tmp_path)
    # Bytes, because -0.0 and the smallest subnormal compare equal to 0 under XLA.
    assert tree_hash(found) == tree_hash(items(5))
    chex.assert_trees_all_equal_dtypes(found, items(5))
    assert (meta["step"], meta["phase"]) == (5, 5)


def test_an_empty_directory_has_nothing_to_restore(tmp_path):
    assert restore(tmp_path / "new") is None


def test_items_that_are_not_asked_for_are_not_read(saved):
    arrays(saved / "2", "opt_state").write_bytes(b"")
    found, meta = restore(saved, {"variables": items()["variables"]})
    assert meta["step"] == 2
    chex.assert_trees_all_equal(found, {"variables": items(2)["variables"]})


@harmed
def test_damage_is_named_in_one_warning_and_the_step_before_is_taken(saved, harm, said, capfd):
    harm(saved / "2")
    before = listing(saved)

    with pytest.warns(UserWarning, match=f"^checkpoint 2 is damaged and skipped: {said}") as told:
        found, meta = restore(saved)

    assert len(told) == 1
    assert meta["step"] == 1
    assert tree_hash(found) == tree_hash(items(1))
    assert listing(saved) == before
    # Without the check of the files, Orbax and TensorStore print hundreds of lines.
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seed", range(25))
def test_one_flipped_bit_in_data_or_metadata_is_named(saved, seed):
    rng = np.random.default_rng(seed)
    files = sorted(listing(saved / "2"))
    sizes = np.array([path.stat().st_size for path in files])
    # By turns any bit of the step, which most often is data, and any file, most often metadata.
    odds = sizes / sizes.sum() if seed % 2 else None
    number = rng.choice(len(files), p=odds)
    flip(files[number], rng.integers(8 * sizes[number]))
    name = files[number].relative_to(saved / "2")

    with pytest.warns(UserWarning, match=f"^checkpoint 2 is damaged and skipped: {name} has"):
        _, meta = restore(saved)

    assert meta["step"] == 1


@harmed
def test_where_no_checkpoint_is_whole_it_is_said_and_nothing_is_deleted(saved, harm, said):
    harm(saved / "1")
    harm(saved / "2")
    before = listing(saved)
    with (
        pytest.warns(UserWarning, match=r"checkpoint [12] is damaged") as told,
        pytest.raises(UsageError, match=r"no checkpoint in .* is whole; restore the directory"),
    ):
        restore(saved)
    assert len(told) == 2
    assert listing(saved) == before


def test_without_seals_the_values_are_verified(unsealed):
    found, meta = restore(unsealed)
    assert meta["step"] == 2
    assert tree_hash(found) == tree_hash(items(2))


UNSEALED_HARM = {
    "an item gone": (lambda step: shutil.rmtree(step / "variables"), 'KeyError: .*"variables"'),
    "meta emptied": (
        lambda step: (step / "meta" / "metadata").write_bytes(b""),
        "meta/metadata is not JSON",
    ),
    "meta of another type": (
        lambda step: (step / "meta" / "metadata").write_text("[]"),
        "meta/metadata is no JSON object",
    ),
    "meta gone": (lambda step: shutil.rmtree(step / "meta"), "FileNotFoundError: .*meta/metadata"),
}


@pytest.mark.parametrize(("harm", "said"), UNSEALED_HARM.values(), ids=UNSEALED_HARM)
def test_missing_and_unreadable_items_are_found_without_a_seal_too(unsealed, harm, said):
    harm(unsealed / "2")
    with pytest.warns(UserWarning, match=f"^checkpoint 2 is damaged and skipped: {said}"):
        found, meta = restore(unsealed)
    assert meta["step"] == 1
    assert tree_hash(found) == tree_hash(items(1))


@pytest.mark.parametrize("harm", [flip, cut, lambda path: path.write_bytes(b"")])
def test_a_damaged_array_is_found_without_a_seal_too(tmp_path, harm):
    # Where one of several arrays cannot be read, those that are still being read complain later.
    tree = {"variables": {"kernel": jnp.arange(2048.0)}}
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, tree, {})
    for step in ("1", "2"):
        (tmp_path / step / SEAL).unlink()
    harm(arrays(tmp_path / "2"))
    with pytest.warns(UserWarning, match="^checkpoint 2 is damaged and skipped"):
        found, meta = restore(tmp_path, tree)
    assert meta["step"] == 1
    assert tree_hash(found) == tree_hash(tree)


def test_a_value_that_changed_in_a_readable_file_is_found_by_its_hash(unsealed):
    path = unsealed / "2" / "meta" / "metadata"
    meta = json.loads(path.read_text())
    meta["hashes"]["variables"] = tree_hash(items(1)["variables"])
    path.write_text(json.dumps(meta))
    seal(unsealed / "2")  # so the files are as they were sealed
    with pytest.warns(UserWarning, match="2 is damaged.* variables does not have the hash"):
        _, meta = restore(unsealed)
    assert meta["step"] == 1


def test_every_step_is_sealed_before_its_save_is_over(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, items(1), {})
        checkpoints.wait()
        assert (tmp_path / "1" / SEAL).exists()
    # Items are whole with the step, and none has a seal of its own.
    assert len(list(tmp_path.rglob(SEAL))) == 1


def unfinish(step):
    """Makes of a step what a kill amid its save leaves."""
    (step / SEAL).unlink()
    cut(arrays(step))
    return step.rename(step.with_name(f"{step.name}.orbax-checkpoint-tmp"))


def test_a_step_that_was_never_finished_is_named_and_the_one_before_is_taken(saved, capfd):
    unfinish(saved / "2")
    before = listing(saved)

    with pytest.warns(UserWarning, match="^checkpoint 2 is unfinished and skipped") as told:
        _, meta = restore(saved)

    assert len(told) == 1
    assert meta["step"] == 1
    assert listing(saved) == before
    assert capfd.readouterr() == ("", "")
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.latest == 1


def test_a_run_whose_first_save_was_killed_starts_afresh(saved, capfd):
    unfinish(saved / "1")
    unfinish(saved / "2")
    with (
        pytest.warns(UserWarning, match=r"checkpoint [12] is unfinished and skipped") as told,
        Checkpoints(saved) as checkpoints,
    ):
        assert checkpoints.restore(targets(items())) is None
        checkpoints.save(1, items(1), {})
    assert len(told) == 2
    assert steps(saved) == ["1"]
    _, meta = restore(saved)
    assert meta["step"] == 1
    assert capfd.readouterr() == ("", "")


def test_an_old_step_that_was_never_finished_is_not_worth_a_warning(saved):
    unfinish(saved / "1")
    with Checkpoints(saved) as checkpoints:
        _, meta = checkpoints.restore(targets(items()))
        assert meta["step"] == 2
        assert steps(saved) == ["1.orbax-checkpoint-tmp", "2"]
        checkpoints.save(3, items(3), {})
    assert steps(saved) == ["2", "3"]


def test_a_damaged_step_can_be_saved_again(saved):
    flip(arrays(saved / "2"))
    # A kill amid this very save, in another run: it must not be taken for the damaged step.
    shutil.copytree(saved / "1", saved / "2.orbax-checkpoint-tmp")
    with (
        pytest.warns(UserWarning, match="checkpoint 2 is damaged"),
        Checkpoints(saved) as checkpoints,
    ):
        checkpoints.restore(targets(items()))
        checkpoints.save(2, items(22), {})
    found, meta = restore(saved)
    assert meta["step"] == 2
    chex.assert_trees_all_equal(found, items(22))
    assert steps(saved) == ["1", "2"]


def test_a_damaged_step_takes_no_place_among_those_that_are_kept(saved):
    flip(arrays(saved / "2"))
    with (
        pytest.warns(UserWarning, match="checkpoint 2 is damaged"),
        Checkpoints(saved, keep=2) as checkpoints,
    ):
        checkpoints.restore(targets(items()))
        assert checkpoints.latest == 1
        checkpoints.save(3, items(3), {})
        assert checkpoints.finished() == 3
    assert steps(saved) == ["1", "3"]


def test_a_step_that_is_damaged_to_another_process_is_skipped(saved, monkeypatch):
    verdicts = iter([1, None, None])
    monkeypatch.setattr(
        "jax_elastic.training.checkpoint.first_with", lambda own: 0 if own else next(verdicts)
    )
    # No warning: the process that saw the damage gives it.
    _, meta = restore(saved)
    assert meta["step"] == 1


def test_several_directories_are_saved_to_at_the_same_time(tmp_path):
    with (
        Checkpoints(tmp_path / "all") as every,
        Checkpoints(tmp_path / "best", keep=1) as best,
    ):
        for step in range(1, 6):
            every.save(step, items(step), {})
            best.save(step, items(-step), {})
    assert steps(tmp_path / "all") == ["3", "4", "5"]
    assert steps(tmp_path / "best") == ["5"]
    assert tree_hash(restore(tmp_path / "all")[0]) == tree_hash(items(5))
    assert tree_hash(restore(tmp_path / "best")[0]) == tree_hash(items(-5))


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
    assert steps(tmp_path) == ["3", "4"]
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


def test_an_intact_directory_is_restored_without_a_warning(saved, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, meta = restore(saved)
    assert meta["step"] == 2
    assert capfd.readouterr() == ("", "")
