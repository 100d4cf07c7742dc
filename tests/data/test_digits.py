import numpy as np
import pytest
from sklearn.datasets import load_digits

from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.data.digits import in_test, to_pixels


@pytest.fixture(scope="module")
def whole_train():
    return load(DataConfig(validation=0), "train")


@pytest.fixture(scope="module")
def test_set():
    return load(DataConfig(), "test")


def test_every_ink_level_comes_back_from_its_pixel():
    ink = np.arange(17)
    pixels = to_pixels(ink)
    assert (pixels[0], pixels[-1]) == (0, 255)
    np.testing.assert_array_equal(np.round(pixels / 255 * 16), ink)


def test_the_splits_are_the_rows_of_scikit_learn_in_its_order(whole_train, test_set):
    ink, labels = load_digits(return_X_y=True)
    test = in_test(labels)
    for dataset, rows in ((whole_train, ~test), (test_set, test)):
        restored = np.round(dataset.images.reshape(len(dataset), 64) / 255 * 16)
        np.testing.assert_array_equal(restored, ink[rows])
        np.testing.assert_array_equal(dataset.labels[:, 0], labels[rows])


def test_a_fifth_of_every_class_is_test(test_set):
    _, labels = load_digits(return_X_y=True)
    expected = [round(0.2 * size) for size in np.bincount(labels).tolist()]
    assert np.bincount(test_set.labels[:, 0]).tolist() == expected


def test_the_test_split_is_the_published_one():
    # Golden: another value means that every figure measured on digits 1.0.0 is void.
    _, labels = load_digits(return_X_y=True)
    rows = np.flatnonzero(in_test(labels))
    assert (len(rows), int(rows.sum())) == (359, 323596)
    assert rows[:8].tolist() == [10, 14, 16, 27, 33, 34, 43, 50]


def test_the_default_mean_and_std_are_those_of_train(whole_train):
    config = DataConfig()
    pixels = whole_train.images / 255
    # The constants are rounded to three digits.
    assert pixels.mean() == pytest.approx(config.mean[0], abs=5e-4)
    assert pixels.std() == pytest.approx(config.std[0], abs=5e-4)
