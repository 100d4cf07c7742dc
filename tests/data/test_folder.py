import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jax_elastic.data import datasets
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.errors import UsageError

GREY = Image.new("L", (4, 4), 100)
RED = (255, 0, 0)


@pytest.fixture(autouse=True)
def nothing_read():
    """What was read from another folder of the same name is forgotten."""
    datasets._read.cache_clear()


def put(root, files):
    """Saves images, or writes bytes, under `root`; None makes a folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path)


@pytest.fixture
def root(tmp_path):
    """Cats and dogs, one image of each in both splits."""
    put(tmp_path, {f"{s}/{c}/1.png": GREY for s in ("train", "test") for c in ("cat", "dog")})
    return tmp_path


def config(root, channels=3, **fields):
    fields = {"validation": 0, "image_shape": (4, 4, channels), **fields}
    return DataConfig(f"folder:{root}", mean=(0.5,) * channels, std=(0.2,) * channels, **fields)


def test_classes_and_images_come_in_the_order_of_their_names(tmp_path):
    greys = {"b/2.png": 40, "b/1.png": 30, "a/x.png": 20, "10/x.png": 10, "B/x.png": 15}
    put(tmp_path, {f"train/{name}": Image.new("L", (4, 4), v) for name, v in greys.items()})
    put(tmp_path, {f"test/{name}/1.png": GREY for name in ["B", "10", "a", "b"]})

    dataset = load(config(tmp_path, 1), "train")

    assert dataset.class_names == ("10", "B", "a", "b")
    assert dataset.classes == (4,)
    assert dataset.images[:, 0, 0, 0].tolist() == [10, 15, 20, 30, 40]
    assert dataset.labels.tolist() == [[0], [1], [2], [3], [3]]
    assert (dataset.images.shape, dataset.images.dtype) == ((5, 4, 4, 1), np.uint8)
    assert dataset.labels.dtype == np.int32
    assert dataset.name == f"folder:{tmp_path}"


def test_train_and_test_are_read_from_their_own_folders(root):
    put(root, {"test/dog/2.png": GREY})

    assert len(load(config(root), "train")) == 2
    assert load(config(root), "test").labels.tolist() == [[0], [1], [1]]


def test_a_folder_takes_a_taxonomy_of_its_own_classes(root, tmp_path_factory):
    put(root, {f"{split}/carp/1.png": GREY for split in ("train", "test")})
    file = tmp_path_factory.mktemp("taxonomy") / "animals.json"
    ancestors = {"dog": ["mammal"], "cat": ["mammal"], "carp": ["fish"]}
    fields = {"schema": 1, "kind": "taxonomy", "dataset": "animals", "source": "by hand"}
    file.write_text(json.dumps({**fields, "levels": ["class", "kind"], "ancestors": ancestors}))

    dataset = load(config(root, taxonomy=str(file)), "train")

    assert dataset.class_names == ("carp", "cat", "dog")
    assert dataset.coarse_names == (("fish", "mammal"),)
    assert dataset.labels.tolist() == [[0, 0], [1, 1], [2, 1]]


def palette():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, *RED])
    return image


@pytest.mark.parametrize(
    ("file", "image", "colour"),
    [
        ("grey.png", GREY, (100, 100, 100)),
        ("rgb.png", Image.new("RGB", (4, 4), RED), RED),
        ("rgba.png", Image.new("RGBA", (4, 4), (*RED, 255)), RED),
        ("clear.png", Image.new("RGBA", (4, 4), (*RED, 0)), (255, 255, 255)),
        ("palette.gif", palette(), RED),
        ("cmyk.tiff", Image.new("CMYK", (4, 4), (0, 255, 255, 0)), RED),
        ("wide.png", Image.new("I;16", (4, 4), 100 << 8), (100, 100, 100)),
        ("large.png", Image.new("RGB", (9, 5), RED), RED),
        ("small.bmp", Image.new("RGB", (1, 2), RED), RED),
        ("no_suffix", b"P3 1 1 255 255 0 0 ", RED),
    ],
)
def test_images_of_any_kind_and_size_are_made_to_fit(root, file, image, colour):
    put(root, {f"train/dog/{file}": image})

    images = load(config(root), "train").images

    assert len(images) == 3
    added = images[1:][np.argsort([file, "1.png"]).argmin()]
    assert {tuple(pixel) for pixel in added.reshape(-1, 3).tolist()} == {colour}


def test_hidden_files_and_folders_are_ignored(root):
    hidden = ("train/cat/.DS_Store", "train/.thumbs/1.png", ".git/config", "test/.index")
    put(root, dict.fromkeys((*hidden, "README.txt"), b"hidden"))

    assert load(config(root), "train").class_names == ("cat", "dog")


def test_every_file_that_cannot_be_read_is_named_in_one_error(root):
    damaged = (root / "train/cat/1.png").read_bytes()[:40]
    put(root, {"train/cat/damaged.png": damaged, "train/cat/empty.png": b"", "train/dog/sub": None})
    put(root, {"train/dog/notes.txt": b"not an image"})

    with pytest.raises(UsageError, match="4 of 6 files cannot be read") as caught:
        load(config(root), "train")

    for name in ("cat/damaged.png (", "cat/empty.png (it is empty)", "dog/sub (Is a directory)"):
        assert f"{root}/train/{name}" in str(caught.value)
    assert f"{root}/train/dog/notes.txt (it is no image)" in str(caught.value)


def test_of_many_files_that_cannot_be_read_the_first_are_named_and_the_others_counted(root):
    put(root, {f"train/cat/{number}.txt": b"no image" for number in range(9)})

    with pytest.raises(UsageError, match=r"9 of 11 .*cat/4\.txt \(it is no image\) and 4 more;"):
        load(config(root), "train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train/fox/1.png": GREY}, "not in both {root}/train and test: fox"),
        ({"test/fox/1.png": GREY}, "not in both {root}/train and test: fox"),
        ({"train/fox": None, "test/fox/1.png": GREY}, "without an image: {root}/train/fox;"),
        ({"test/dog/sub": None, "test/cow": None}, "without an image: {root}/test/cow;"),
        ({"train/stray.png": GREY}, "in no class's folder: {root}/train/stray.png;"),
        ({"val/cat/1.png": GREY}, "also holds the folders val;"),
    ],
)
def test_a_folder_that_is_laid_out_otherwise_is_refused(root, changes, message):
    put(root, changes)

    with pytest.raises(UsageError) as caught:
        load(config(root), "train")

    assert message.format(root=root) in str(caught.value)
    assert "in both the same folder per class" in str(caught.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"holds the folders \(none\); .*put, for example, a fifth of every class under test"),
        ({"cat/1.png": GREY, "dog/1.png": GREY}, "holds the folders cat, dog; .*a fifth of every"),
        ({"train/cat/1.png": GREY}, "holds the folders train; .*a fifth of every class"),
        ({"train": None, "test": None}, r"too few classes to tell apart: \(none\); two or more"),
        (
            {"train/a/1.png": GREY, "test/a/1.png": GREY},
            "too few classes to tell apart: a; two",
        ),
    ],
)
def test_a_folder_that_is_no_set_is_refused(tmp_path, files, message):
    put(tmp_path, files)
    with pytest.raises(UsageError, match=message):
        load(config(tmp_path), "train")


def test_a_path_that_leads_nowhere_is_told_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"there is no folder {tmp_path}/pets"):
        load(config("pets"), "train")


def test_a_path_may_begin_at_home(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    assert len(load(config(f"~/{root.name}"), "train")) == 2


def test_a_class_of_one_image_is_trained_on_and_not_validated(root):
    put(root, {f"train/dog/{number}.png": GREY for number in range(2, 11)})
    half = config(root, validation=0.5)

    assert load(half, "train").labels[:, 0].tolist() == [0, 1, 1, 1, 1, 1]
    assert load(half, "validation").labels[:, 0].tolist() == [1] * 5
    assert load(half, "validation").class_names == ("cat", "dog")


def test_too_few_images_to_hold_any_out_are_refused(root):
    with pytest.raises(UsageError, match=r"the validation split of folder:.* is empty"):
        load(config(root, validation=0.1), "validation")


def test_more_pixels_than_fit_into_memory_are_refused_before_any_file_is_read(root):
    put(root, {"train/cat/damaged.png": b""})
    huge = config(root, image_shape=(30_000, 30_000, 3))

    with pytest.raises(UsageError, match=r"3 images .* take 7\.5 GiB .*; 4 GiB, .* TFDS set"):
        load(huge, "train")


def test_images_that_are_neither_grey_nor_rgb_are_refused(root):
    with pytest.raises(UsageError, match=r"images of 2 channels .*; 1 \(grey\) or 3 \(RGB\)"):
        load(config(root, 2), "train")


def test_a_folder_read_at_another_size_is_read_anew(root):
    small = config(root)
    large = dataclasses.replace(small, image_shape=(8, 6, 3))

    shapes = [load(each, "train").images.shape for each in (small, large)]

    assert shapes == [(2, 4, 4, 3), (2, 8, 6, 3)]


def test_a_name_without_the_prefix_is_told_about_it(root):
    named = dataclasses.replace(config(root), name=str(Path(root)))
    with pytest.raises(UsageError, match=r"unknown dataset .*folder:PATH for a folder"):
        load(named, "train")
