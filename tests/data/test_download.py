import importlib.util
import io
import sys

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds
from PIL import Image
from tiny_cifar import COARSE, FINE, archive, originals, put

from jax_elastic.data import catalogue
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.errors import UsageError

NAMES = ("cifar10", "cifar100")


def rgb(name):
    return DataConfig(name, (32, 32, 3), validation=0, mean=(0.5,) * 3, std=(0.2,) * 3)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data directory in which both sets are prepared from archives put there by hand."""
    data_dir = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(data_dir))
        for name in NAMES:
            put(name, data_dir, patch)
            load(rgb(name), "test")
    return data_dir


@pytest.fixture
def prepared(made, monkeypatch):
    """`made`, as the data directory."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(made))
    return made


@pytest.fixture
def fresh_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    return tmp_path


def source(name, split, data_dir, **options):
    builder = catalogue._builder(name, str(data_dir))
    return builder, builder.as_data_source(split=split, file_format="array_record", **options)


def rows(name, split, data_dir):
    """Which image of the archive each record is, by its id."""
    _, records = source(name, split, data_dir)
    ids = [record["id"].decode() for record in records]
    assert {id.rpartition("_")[0] for id in ids} == {split}
    return np.array([int(id.rpartition("_")[2]) for id in ids])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", NAMES)
def test_cifar_holds_every_image_and_label_of_the_archive(prepared, name, split):
    images, labels = originals(name, split)

    dataset = load(rgb(name), split)

    order = rows(name, split, prepared)
    assert sorted(order) == list(range(len(images)))
    np.testing.assert_array_equal(dataset.images, images[order])
    np.testing.assert_array_equal(dataset.labels, labels[order])


@pytest.mark.parametrize("name,classes", [("cifar10", (10,)), ("cifar100", (100, 20))])
def test_the_classes_of_cifar_are_named_as_the_archive_names_them(prepared, name, classes):
    dataset = load(rgb(name), "test")
    builder, _ = source(name, "test", prepared)

    assert dataset.classes == classes
    assert list(dataset.class_names) == FINE[name]
    if name == "cifar100":
        assert builder.info.features["coarse_label"].names == COARSE


def test_the_stored_images_are_pngs(prepared):
    skip = {"image": tfds.decode.SkipDecoding()}
    _, records = source("cifar10", "test", prepared, decoders=skip)
    images, _ = originals("cifar10", "test")

    order = rows("cifar10", "test", prepared)
    with Image.open(io.BytesIO(records[0]["image"])) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(np.asarray(image), images[order[0]])


def test_nothing_is_left_of_what_was_extracted(prepared):
    assert [path.name for path in (prepared / "downloads").iterdir()] == ["manual"]


@pytest.mark.skipif(bool(importlib.util.find_spec("tensorflow")), reason="TensorFlow is installed")
def test_after_preparing_tfds_lacks_tensorflow_as_before(prepared):
    from tensorflow_datasets.core.utils.lazy_imports_utils import tensorflow

    assert "tensorflow" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match="tensorflow"):
        tensorflow.io  # noqa: B018


def test_preparing_says_where_in_one_line_on_standard_error_and_only_once(
    fresh_dir, monkeypatch, capfd
):
    put("cifar10", fresh_dir, monkeypatch)

    load(rgb("cifar10"), "train")
    first = capfd.readouterr()
    load(rgb("cifar10"), "test")

    line = f"cifar10: preparing it in {fresh_dir}/cifar10/3.0.2; takes minutes, once\n"
    assert (first.out, first.err) == ("", line)
    assert tuple(capfd.readouterr()) == ("", "")


def answer(code):
    response = requests.Response()
    response.status_code = code
    response.raw = io.BytesIO()
    response.url = "the server"
    return response


def unreachable(*arguments, **options):
    raise requests.ConnectionError("Name or service not known")


@pytest.mark.parametrize(
    ("reach", "reason"),
    [
        (unreachable, "Name or service not known"),
        (lambda *arguments, **options: answer(404), "404 Client Error"),
    ],
)
def test_a_download_that_fails_is_told_with_its_address_and_what_to_do(
    fresh_dir, monkeypatch, capfd, reach, reason
):
    monkeypatch.setattr(requests, "get", reach)

    with pytest.raises(UsageError) as caught:
        load(rgb("cifar100"), "train")

    url = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
    assert f"cifar100 cannot be downloaded from {url}: {reason}" in str(caught.value)
    assert f"put it at {fresh_dir}/downloads/manual/cifar-100-binary.tar.gz" in str(caught.value)
    assert "TFDS_DATA_DIR" in str(caught.value)
    assert f"cifar100: downloading 169 MB, preparing it in {fresh_dir}" in capfd.readouterr().err


@pytest.mark.parametrize(
    "get", [unreachable, lambda *arguments, **options: answer(503)], ids=["silent", "refused"]
)
def test_a_download_that_breaks_off_is_told_and_can_be_tried_again(fresh_dir, monkeypatch, get):
    monkeypatch.setattr(requests, "get", lambda *arguments, **options: answer(200))
    with monkeypatch.context() as broken:
        broken.setattr(requests.Session, "get", get)
        with pytest.raises(UsageError, match="cifar10 cannot be downloaded from https://www"):
            load(rgb("cifar10"), "train")

    content = archive("cifar10")
    put("cifar10", fresh_dir, monkeypatch)
    (fresh_dir / "downloads" / "manual" / "cifar-10-binary.tar.gz").unlink()

    def download(self, url, **options):
        response = answer(200)
        response.raw, response.url = io.BytesIO(content), url
        return response

    monkeypatch.setattr(requests.Session, "get", download)
    assert len(load(rgb("cifar10"), "train")) == 10


def test_an_archive_that_is_not_the_published_one_is_refused(fresh_dir):
    file = fresh_dir / "downloads" / "manual" / "cifar-10-binary.tar.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(archive("cifar10"))

    with pytest.raises(UsageError, match=f"{file} is not the published archive; 170052171 bytes"):
        load(rgb("cifar10"), "train")
