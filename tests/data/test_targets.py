"""Targets: a file of its own, and training images that come with it."""

import dataclasses

import jax
import numpy as np
import pytest

from jax_elastic.data import datasets
from jax_elastic.data.augment import make_batch
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset, load, load_to_train
from jax_elastic.data.targets import Targets, check_teacher, read_targets
from jax_elastic.errors import UsageError

POINTS = ("cut:1", "cut:2", "cut:3")
IDS = np.array([1, 4, 5], np.int32)
PROBABILITY = np.array([[0.2, 0.9, 0.9], [0.5, 0.5, 0.5], [0.1, 0.3, 0.6]], np.float32)
TARGETS = [1, 0, 2]


def targets(train="", **changes):
    found = Targets.begin(IDS, POINTS, "abc", train).extended(PROBABILITY, PROBABILITY > 0.5)
    return dataclasses.replace(found, **changes)


def of_digits(path, **changes):
    """A file of targets of three training digits, and the config that names it."""
    of = {"train": load(DataConfig(), "train").fingerprint, **changes}
    return DataConfig(targets=str(targets(**of).write(path)))


def test_the_target_is_the_candidate_with_the_likeliest_true_class_or_the_first_of_equals():
    assert targets().targets.tolist() == TARGETS
    assert targets().targets.dtype == np.int32


def test_a_file_holds_what_was_written(tmp_path):
    written = targets("train")
    read = read_targets(written.write(tmp_path / "targets.npz"))

    assert written.differences(read) == []
    np.testing.assert_array_equal(read.probability, written.probability)
    np.testing.assert_array_equal(read.right, written.right)
    assert [(array.dtype.kind, array.dtype.itemsize) for array in (read.ids, read.probability)] == [
        ("i", 4),
        ("f", 4),
    ]


@pytest.mark.parametrize(
    "changes,told",
    [
        ({"checkpoint": "other"}, ["weights"]),
        ({"candidates": POINTS[::-1]}, ["candidates"]),
        ({"train": "other"}, ["training sets"]),
        ({"ids": IDS + 1}, ["images"]),
        ({"probability": PROBABILITY[:1]}, []),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value else "",
)
def test_targets_that_are_of_something_else_say_of_what(changes, told):
    assert targets().differences(targets(**changes)) == told


def test_training_images_with_targets_are_those_that_have_one_and_the_target_is_their_last_label(
    tmp_path,
):
    whole, found = load(DataConfig(), "train"), load_to_train(of_digits(tmp_path / "targets.npz"))

    np.testing.assert_array_equal(found.images, whole.images[IDS])
    np.testing.assert_array_equal(found.labels[:, 0], whole.labels[IDS, 0])
    assert found.labels[:, 1].tolist() == TARGETS
    assert found.labels.dtype == np.int32
    assert (found.candidates, found.teacher) == (POINTS, "abc")
    assert found.classes == whole.classes == (10,)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_images_that_nobody_learns_from_have_no_targets_and_need_no_file(split):
    named = load(DataConfig(targets="no/such/file"), split)

    assert named.candidates == ()
    assert named.fingerprint == load(DataConfig(), split).fingerprint


def test_a_batch_of_images_with_targets_says_which_candidate_is_the_best(tmp_path):
    data = load_to_train(of_digits(tmp_path / "targets.npz"))
    batch = make_batch(
        data.images, data.labels, np.arange(3), jax.random.key(0), DataConfig(), (10, 3), False
    )

    assert batch["targets"][1].tolist() == np.eye(3)[TARGETS].tolist()


def test_other_targets_are_another_data_set(tmp_path):
    found = [
        load_to_train(of_digits(tmp_path / name, **changes)).fingerprint
        for name, changes in (
            ("a.npz", {}),
            ("b.npz", {"probability": PROBABILITY[:, ::-1]}),
            ("c.npz", {"candidates": POINTS[::-1]}),
            ("d.npz", {"candidates": ("cut:", "1cut:2", "cut:3")}),
            ("e.npz", {"checkpoint": "other"}),
        )
    ]

    assert len({*found, load(DataConfig(), "train").fingerprint}) == 6


def test_a_target_stands_behind_all_levels_of_a_taxonomy(tmp_path):
    plain = DataConfig(taxonomy="digits")
    whole = load(plain, "train")
    path = targets(whole.fingerprint).write(tmp_path / "targets.npz")
    found = load_to_train(dataclasses.replace(plain, targets=str(path)))

    assert found.classes == whole.classes == (10, 3)
    np.testing.assert_array_equal(found.labels[:, :2], whole.labels[IDS])
    assert found.labels[:, 2].tolist() == TARGETS


def test_a_target_takes_the_place_of_levels_that_nothing_uses(tmp_path, monkeypatch):
    labels = np.arange(12, dtype=np.int32).reshape(6, 2)
    images, names = np.zeros((6, 8, 8, 1), np.uint8), tuple("abcdefghijkl")
    two = Dataset("two", images, labels, (12, 12), names, ("fine", "coarse"), (names,))
    monkeypatch.setattr(datasets, "_read", lambda *_: two)
    plain = DataConfig(name="two", validation=0)
    path = targets(load(plain, "train").fingerprint).write(tmp_path / "targets.npz")
    found = load_to_train(dataclasses.replace(plain, targets=str(path)))

    assert found.labels.tolist() == [[2, 1], [8, 0], [10, 2]]
    assert (found.classes, found.level_names, found.coarse_names) == ((12,), ("fine",), ())


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"train": "other"}, "are of other images than the train split"),
        (
            {"probability": PROBABILITY[:2], "right": PROBABILITY[:2] > 0.5},
            "has 2 of 3 images; start the command again",
        ),
    ],
    ids=["other images", "not finished"],
)
def test_targets_that_do_not_fit_the_images_are_refused(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        load_to_train(of_digits(tmp_path / "targets.npz", **changes))


def write_array(path):
    np.savez(path, a=np.zeros(1))


def write_newer(path):
    np.savez(path, schema=2, checkpoint="", train="", candidates=["cut:1"])


def damaged(**changes):
    """Writes targets whose arrays do not go together."""
    return lambda path: targets(**changes).write(path)


@pytest.mark.parametrize(
    "write,message",
    [
        (lambda path: None, "cannot be read: No such file.*targets --workdir"),
        (lambda path: path.touch(), "holds no targets"),
        (lambda path: path.write_text("no archive"), "holds no targets"),
        (write_array, "holds no targets"),
        (write_newer, "has schema 2; this version of jax_elastic reads up to schema 1"),
        (damaged(candidates=POINTS[:2]), "holds no targets"),
        (damaged(ids=IDS[:2]), "holds no targets"),
        (damaged(ids=IDS[::-1]), "holds no targets"),
        (damaged(ids=IDS - 2), "holds no targets"),
        (damaged(ids=np.float32(IDS)), "holds no targets"),
        (damaged(right=PROBABILITY[:2] > 0.5), "holds no targets"),
        (damaged(right=PROBABILITY), "holds no targets"),
    ],
    ids=[
        *("missing", "empty", "text", "another archive", "newer"),
        *("fewer candidates", "fewer images", "not ascending", "negative", "no indices"),
        *("fewer right", "right by shares"),
    ],
)
def test_a_file_that_is_no_file_of_targets_is_refused(tmp_path, write, message):
    write(tmp_path / "targets.npz")

    with pytest.raises(UsageError, match=message):
        read_targets(tmp_path / "targets.npz")


@pytest.mark.parametrize(
    "own,wanted,message",
    [
        (
            (),
            POINTS,
            "3 operating points suits an image, and toy comes without.*config.data.targets",
        ),
        (POINTS, (), "config.data.targets is set, and the network learns no choice"),
        (POINTS, POINTS[:2], r"candidates cut:1, cut:2, cut:3, and the network has cut:1, cut:2;"),
        (POINTS, POINTS[::-1], r"in the same order.*pool='cut:1;cut:2;cut:3'"),
    ],
    ids=["none there", "none wanted", "fewer", "another order"],
)
def test_targets_that_do_not_fit_the_network_are_refused(own, wanted, message):
    labels = np.zeros((1, 2 if own else 1), np.int32)
    data = Dataset("toy", np.zeros((1, 2, 2, 1), np.uint8), labels, (1,), ("a",), candidates=own)
    data.check_candidates(own)

    with pytest.raises(UsageError, match=message):
        data.check_candidates(wanted)


@pytest.mark.parametrize("start,told", [("other", "are of other\\.\\.\\."), ("", "are fresh")])
def test_targets_of_other_weights_than_a_run_starts_from_are_refused(start, told):
    check_teacher("abc", "abc")
    check_teacher("", start)  # without targets nothing is taught

    with pytest.raises(UsageError, match=f"of the variables abc.*{told}.*compute targets of"):
        check_teacher("abc", start)


def test_a_mix_of_images_has_no_target():
    with pytest.raises(UsageError, match=r"data\.mixup is 0\.2 and data\.targets is set"):
        DataConfig(mixup=0.2, targets="targets.npz")
