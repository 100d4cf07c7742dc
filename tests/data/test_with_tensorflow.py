"""What only an installed TensorFlow can tell: pip install -e '.[test,prepare]'."""

import importlib.util
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

if importlib.util.find_spec("tensorflow") is None:
    pytest.skip("TensorFlow is not installed", allow_module_level=True)

import tensorflow_datasets as tfds
from tiny_cifar import IMAGES, put

from jax_elastic.data import catalogue
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.data.digits import Digits
from jax_elastic.data.digits_hard import DigitsHard
from jax_elastic.errors import UsageError

REPOSITORY = Path(__file__).resolve().parents[2]

# TensorFlow takes seconds to import, and warns of what is not ours to mend.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


class TestDigits(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = Digits
    SPLITS = {"train": 1438, "test": 359}  # noqa: RUF012, TFDS reads it so
    EXAMPLE_DIR = Path(__file__).parent  # nothing is read there: the images are scikit-learn's


class TestDigitsHard(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = DigitsHard
    SPLITS = {"train": 300, "test": 1497}  # noqa: RUF012
    EXAMPLE_DIR = Path(__file__).parent


def records(name, data_dir):
    """All records of a set in their order."""
    builder = catalogue._builder(name, str(data_dir))
    return [
        dict(record)
        for split in ("train", "test")
        for record in builder.as_data_source(split=split, file_format="array_record")
    ]


WITHOUT = """
import importlib.util
import sys
from pathlib import Path

import pytest
from tiny_cifar import put

from jax_elastic.data import catalogue

name, data_dir = sys.argv[1:]
put(name, Path(data_dir), pytest.MonkeyPatch())
find = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name == "tensorflow" else find(name)
catalogue._builder(name, data_dir)
sys.exit("tensorflow" in sys.modules)
"""


@pytest.mark.parametrize("name,files", [("cifar10", 6), ("cifar100", 2)])
def test_cifar_prepared_with_tensorflow_and_without_it_has_the_same_records(
    tmp_path, monkeypatch, name, files
):
    folders = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests")))
    subprocess.run(
        [sys.executable, "-c", WITHOUT, name, tmp_path / "without"],
        check=True,
        env={**os.environ, "PYTHONPATH": folders},
    )
    put(name, tmp_path / "with", monkeypatch)

    ours, theirs = (records(name, tmp_path / place) for place in ("without", "with"))

    assert len(ours) == len(theirs) == files * IMAGES
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_equal(our, their)


def test_the_command_that_the_error_names_converts_a_set_to_what_is_read(tmp_path, monkeypatch):
    Digits(data_dir=tmp_path / "theirs").download_and_prepare(file_format="tfrecord")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "theirs"))
    with pytest.raises(UsageError, match="prepared as tfrecord") as caught:
        load(DataConfig(), "test")

    command = caught.value.next_step.partition("run: ")[2]
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(shlex.split(command), check=True, env={**os.environ, "PATH": places})

    converted = load(DataConfig(), "test")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "ours"))
    np.testing.assert_array_equal(converted.images, load(DataConfig(), "test").images)
