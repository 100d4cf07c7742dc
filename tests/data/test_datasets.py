import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jax_elastic.data import catalogue, datasets
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.data.digits import Digits
from jax_elastic.data.groups import IMAGENET, INCEPTION
from jax_elastic.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[2]
SIZES = {"train": 6, "test": 4}


class TwoLevels(tfds.core.GeneratorBasedBuilder):
    """3 fine classes in 2 coarse ones, as CIFAR-100 has 100 in 20; RGB images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "coarse_label": tfds.features.ClassLabel(names=["a", "b"]),
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=["a1", "a2", "b1"]),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(size) for split, size in SIZES.items()}

    def _generate_examples(self, size):
        for row in range(size):
            image = Image.new("RGB", (4, self.height(row)), (row, 0, 0))
            yield row, {"image": image, "label": row % 3, "coarse_label": row % 3 // 2}

    def height(self, row):
        return 4


class UnequalSizes(TwoLevels):
    def height(self, row):
        return 4 + row % 2


class Unlabelled(TwoLevels):
    def _generate_examples(self, size):
        for row in range(size):
            yield row, {"image": Image.new("RGB", (4, 4)), "label": -1, "coarse_label": 0}


class NoImages(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"label": tfds.features.ClassLabel(num_classes=2)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        yield 0, {"label": 0}


@pytest.fixture
def fresh_dir(tmp_path, monkeypatch):
    """An empty TFDS_DATA_DIR; what was read from another one is forgotten."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    datasets._read.cache_clear()
    yield tmp_path
    datasets._read.cache_clear()


def rgb(name, **fields):
    return DataConfig(name=name, image_shape=(4, 4, 3), mean=(0.5,) * 3, std=(0.2,) * 3, **fields)


def prepare(builder_class, data_dir):
    with catalogue._quiet():
        builder_class(data_dir=data_dir).download_and_prepare(file_format="array_record")


def keys(dataset):
    """One value per image, to compare sets of images by; digits has no two equal ones."""
    return {image.tobytes() for image in dataset.images}


def test_train_and_validation_share_no_image_and_make_up_the_whole():
    train, validation = load(DataConfig(), "train"), load(DataConfig(), "validation")
    whole = load(DataConfig(validation=0), "train")
    assert not keys(train) & keys(validation)
    assert keys(train) | keys(validation) == keys(whole)


def test_the_validation_split_is_stratified():
    whole = load(DataConfig(validation=0), "train")
    validation = load(DataConfig(validation=0.25), "validation")
    expected = [round(0.25 * size) for size in np.bincount(whole.labels[:, 0]).tolist()]
    assert np.bincount(validation.labels[:, 0]).tolist() == expected


def test_the_validation_split_is_the_same_at_every_call():
    first = load(DataConfig(), "validation")
    datasets._read.cache_clear()
    second = load(DataConfig(), "validation")
    np.testing.assert_array_equal(first.images, second.images)


def test_a_dataset_has_the_documented_types_and_shapes():
    dataset = load(DataConfig(), "test")
    assert (dataset.images.shape, dataset.images.dtype) == ((len(dataset), 8, 8, 1), np.uint8)
    assert (dataset.labels.shape, dataset.labels.dtype) == ((len(dataset), 1), np.int32)
    assert dataset.classes == (10,)
    assert dataset.class_names == tuple("0123456789")


def test_label_levels_begin_with_the_finest(fresh_dir):
    prepare(TwoLevels, fresh_dir)
    dataset = load(rgb("two_levels", validation=0), "train")
    assert dataset.classes == (3, 2)
    assert dataset.class_names == ("a1", "a2", "b1")
    assert (dataset.level_names, dataset.coarse_names) == (("label", "coarse_label"), (("a", "b"),))
    assert dataset.labels.tolist() == [[0, 0], [1, 0], [2, 1]] * 2
    assert dataset.images[:, 0, 0, 0].tolist() == list(range(6))


def taxonomy(folder, levels, ancestors):
    """The path of a taxonomy's file."""
    fields = {"schema": 1, "kind": "taxonomy", "dataset": "two_levels", "source": "by hand"}
    path = folder / "own.json"
    path.write_text(json.dumps({**fields, "levels": levels, "ancestors": ancestors}))
    return str(path)


def test_a_taxonomy_gives_a_set_its_further_label_levels():
    plain, dataset = (load(DataConfig(taxonomy=name), "test") for name in ("", "digits"))
    assert (plain.classes, plain.level_names, plain.taxonomy) == ((10,), ("label",), "")
    assert (dataset.classes, dataset.level_names) == ((10, 3), ("class", "loops"))
    assert dataset.class_names == tuple("0123456789")
    assert dataset.coarse_names == (("no_loop", "one_loop", "two_loops"),)
    np.testing.assert_array_equal(dataset.labels[:, :1], plain.labels)
    of_digit = [dict(map(tuple, dataset.labels.tolist()))[digit] for digit in range(10)]
    assert of_digit == [1, 0, 0, 0, 1, 0, 1, 0, 2, 1]


def test_another_taxonomy_makes_another_set_by_the_fingerprint():
    sets = [load(DataConfig(taxonomy=name), "test") for name in ("", "digits", "digits_parity")]
    assert len({dataset.fingerprint for dataset in sets}) == 3


def test_a_taxonomy_does_not_change_which_images_are_held_out():
    plain, dataset = (load(DataConfig(taxonomy=name), "validation") for name in ("", "digits"))
    np.testing.assert_array_equal(plain.images, dataset.images)


AGREEING = {"a1": ["a", "x"], "a2": ["a", "x"], "b1": ["b", "y"]}


def test_a_taxonomy_that_agrees_with_a_sets_own_coarse_labels_adds_to_them(fresh_dir):
    prepare(TwoLevels, fresh_dir)
    file = taxonomy(fresh_dir, ["class", "coarse", "coarser"], AGREEING)
    dataset = load(rgb("two_levels", validation=0, taxonomy=file), "train")
    assert dataset.labels.tolist() == [[0, 0, 0], [1, 0, 0], [2, 1, 1]] * 2


def test_a_taxonomy_that_disagrees_with_a_sets_own_coarse_labels_is_refused(fresh_dir):
    prepare(TwoLevels, fresh_dir)
    file = taxonomy(fresh_dir, ["class", "coarse"], {"a1": ["a"], "a2": ["b"], "b1": ["b"]})
    message = "says b of a2, and coarse_label of two_levels says a; 2 images differ"
    with pytest.raises(UsageError, match=message):
        load(rgb("two_levels", validation=0, taxonomy=file), "train")


def test_a_hierarchy_with_names_of_its_own_takes_the_place_of_a_sets_coarse_labels(fresh_dir):
    prepare(TwoLevels, fresh_dir)
    file = taxonomy(fresh_dir, ["class", "other"], {"a1": ["x"], "a2": ["y"], "b1": ["x"]})
    dataset = load(rgb("two_levels", validation=0, taxonomy=file), "train")
    assert dataset.labels.tolist() == [[0, 0], [1, 1], [2, 0]] * 2


@pytest.mark.parametrize(
    ("name", "classes"),
    [("", (10,)), ("digits", (10, 3)), ("digits_parity", (10, 2))],
)
def test_a_network_of_a_sets_label_levels_fits(name, classes):
    load(DataConfig(taxonomy=name), "test").check_classes(classes)


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("", (7,), r"the network has \(7,\) classes, digits has \(10,\); set the classes"),
        ("", (10, 3), "has 2 label levels.* has one without a taxonomy.*config.data.taxonomy"),
        ("digits", (10,), r"has \(10, 3\): class, loops; .*or leave config.data.taxonomy empty"),
        ("digits", (10, 2), r"the network has \(10, 2\) classes, digits has \(10, 3\)"),
        ("digits", (10, 3, 2), r"the network has \(10, 3, 2\) classes, digits has \(10, 3\)"),
    ],
)
def test_a_network_of_other_label_levels_is_refused(name, classes, message):
    with pytest.raises(UsageError, match=message):
        load(DataConfig(taxonomy=name), "test").check_classes(classes)


def test_a_sets_own_coarse_labels_are_used_only_where_a_taxonomy_is_asked_for(fresh_dir):
    prepare(TwoLevels, fresh_dir)
    dataset = load(rgb("two_levels", validation=0), "train")
    dataset.check_classes((3,))
    with pytest.raises(UsageError, match="two_levels has one without a taxonomy"):
        dataset.check_classes((3, 2))


def test_loading_imports_no_tensorflow_and_prints_nothing(tmp_path):
    program = (
        "import sys; from jax_elastic.data.datasets import *; load(DataConfig(), 'train'); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TFDS_DATA_DIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_the_process_that_finishes_preparing_second_uses_what_the_first_prepared(
    fresh_dir, monkeypatch
):
    generate = Digits._generate_examples
    others = []

    def overtaken(self, *arguments):
        if not others:
            others.append("the other process")
            prepare(Digits, fresh_dir)
        return generate(self, *arguments)

    monkeypatch.setattr(Digits, "_generate_examples", overtaken)

    assert len(load(DataConfig(), "test")) == 359
    assert others
    assert [path.name for path in (fresh_dir / "digits").iterdir()] == ["1.0.0"]


def test_a_failure_to_prepare_is_not_hidden(fresh_dir, monkeypatch):
    def fail(self, **options):
        raise OSError("no space left")

    monkeypatch.setattr(Digits, "download_and_prepare", fail)
    with pytest.raises(OSError, match="no space left"):
        load(DataConfig(), "test")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"validation": 0.6}, r"data\.validation 0\.6 is outside \[0, 0\.5\]"),
        ({"validation": -0.1}, r"data\.validation -0\.1 is outside"),
        ({"validation": float("nan")}, "data.validation nan is outside"),
        ({"image_shape": (8, 8)}, r"data\.image_shape \(8, 8\) is not \(H, W, channels\)"),
        ({"pad": -1}, r"data\.pad -1"),
        ({"pad": 1.5}, r"data\.pad 1\.5"),
        ({"cutout": -2}, r"data\.cutout -2 is not a whole number of pixels"),
        ({"cutout": 9}, r"data\.cutout 9 is larger than images of \(8, 8\)"),
        ({"mixup": -0.2}, r"data\.mixup -0\.2 is no alpha"),
        ({"mean": ()}, r"data\.mean has 0 values"),
        ({"mean": (0.5, 0.5)}, r"data\.mean has 2 values and data\.std 1"),
        ({"image_shape": (8, 8, 3)}, "one of each per channel, and data.image_shape has 3"),
        ({"mean": (125.3,)}, r"data\.mean \(125\.3,\) is outside \[0, 1\]"),
        ({"std": (0.0,)}, r"data\.std \(0\.0,\) is not positive"),
        ({"std": (float("nan"),)}, r"data\.std \(nan,\) is not positive"),
        ({"crop": "centre"}, "data.crop 'centre' is unknown; one of pad, resized"),
        ({"crop": "resized"}, "data.crop 'resized' and data.pad 1 are two crops.*data.pad to 0"),
        ({"jitter": (0.4,)}, r"data.jitter \(0.4,\) has 1 values; .*brightness, saturation"),
        ({"jitter": (0.4, 0, 0.4, 0.6)}, "data.jitter .* is out of range; .* hue in"),
        ({"jitter": (-0.1, 0, 0, 0)}, "data.jitter .* is out of range"),
        (
            {"jitter": (0.4, 0.4, 0.2, 0.1)},
            r"images of \(8, 8, 1\) are not RGB; .*set data.jitter to \(0.4, 0.0, 0.2, 0.0\)",
        ),
    ],
)
def test_a_config_out_of_range_is_refused_at_construction(fields, message):
    with pytest.raises(UsageError, match=message):
        DataConfig(**fields)


def test_inceptions_augmentation_is_that_of_imagenet_and_colours():
    inception, imagenet = DataConfig(**INCEPTION), DataConfig(**IMAGENET)
    assert (imagenet.crop, imagenet.flip, imagenet.jitter) == ("resized", True, ())
    assert inception.jitter == (0.4, 0.4, 0.4, 0.1)
    assert dataclasses.replace(inception, jitter=()) == imagenet


def test_a_config_read_from_lists_is_hashable_and_equal():
    assert hash(DataConfig(image_shape=[8, 8, 1], mean=[0.306], std=[0.376])) == hash(DataConfig())
    assert DataConfig(image_shape=[8, 8, 1], mean=[0.306], std=[0.376]) == DataConfig()


def test_an_unknown_split_is_refused():
    with pytest.raises(UsageError, match="unknown split 'dev'; one of train, validation, test"):
        load(DataConfig(), "dev")


@pytest.mark.parametrize("share", [0, 0.001])
def test_an_empty_validation_split_is_refused(share):
    with pytest.raises(UsageError, match="validation split of digits is empty"):
        load(DataConfig(validation=share), "validation")


@pytest.mark.parametrize("name", ["digitz", "cifar10/no_config", "digits:9.9.9"])
def test_an_unknown_name_is_answered_with_the_nearest_ones(name):
    with pytest.raises(UsageError, match=r"unknown dataset .*nearest names: .*(digits|cifar10)"):
        load(DataConfig(name=name), "train")


def test_an_unprepared_set_is_answered_with_the_command_that_prepares_it(fresh_dir):
    with pytest.raises(UsageError, match=f"run: tfds build mnist .*--data_dir={fresh_dir}"):
        load(DataConfig(name="mnist"), "train")


def test_a_set_in_another_file_format_is_answered_with_the_command_that_converts_it(
    fresh_dir, monkeypatch
):
    prepare(TwoLevels, fresh_dir)
    info = fresh_dir / "two_levels" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    message = f"prepared as tfrecord.*tfds convert_format .*={fresh_dir}/two_levels/1.0.0"
    with pytest.raises(UsageError, match=message):
        load(rgb("two_levels"), "train")


def test_a_set_that_was_converted_in_place_is_read(fresh_dir):
    prepare(TwoLevels, fresh_dir)
    file = fresh_dir / "two_levels" / "1.0.0" / "dataset_info.json"
    info = json.loads(file.read_text())
    # What `tfds convert_format` makes of a set that was prepared as tfrecord.
    info |= {"fileFormat": "tfrecord", "alternativeFileFormats": ["array_record"]}
    file.write_text(json.dumps(info))

    dataset = load(rgb("two_levels", validation=0), "train")

    assert dataset.images[:, 0, 0, 0].tolist() == list(range(6))
    assert dataset.class_names == ("a1", "a2", "b1")


@pytest.mark.parametrize(
    ("builder_class", "message"),
    [
        (UnequalSizes, r"unequal_sizes has images of \(4, 4, 3\) and \(5, 4, 3\)"),
        (Unlabelled, "train split of unlabelled has images without a label"),
        (NoImages, "no_images has 0 image and 1 class features"),
    ],
)
def test_a_set_that_is_no_classification_of_equal_images_is_refused(
    fresh_dir, builder_class, message
):
    prepare(builder_class, fresh_dir)
    with pytest.raises(UsageError, match=message):
        load(rgb(builder_class.name), "train")


def test_images_of_another_shape_than_the_config_says_are_refused(fresh_dir):
    prepare(TwoLevels, fresh_dir)
    message = r"data\.image_shape is \(8, 8, 1\) but two_levels has images of \(4, 4, 3\)"
    with pytest.raises(UsageError, match=message):
        load(DataConfig(name="two_levels"), "train")
