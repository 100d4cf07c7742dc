import hashlib

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jax_elastic.data import digits_hard
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.data.digits import to_pixels
from jax_elastic.data.digits_hard import hard_image, in_train

CONFIG = DataConfig("digits_hard", (12, 12, 1), validation=0, mean=(0.204,), std=(0.287,))


@pytest.fixture(scope="module")
def fresh_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def splits(fresh_dir):
    """Both splits, prepared anew: what lies in a cache was drawn by yesterday's code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFDS_DATA_DIR", str(fresh_dir))
        return {split: load(CONFIG, split) for split in ("train", "test")}


@pytest.fixture(scope="module")
def labels():
    return load_digits(return_X_y=True)[1]


@pytest.fixture(scope="module")
def pixels():
    return to_pixels(load_digits(return_X_y=True)[0]).reshape(-1, 8, 8)


@pytest.fixture
def untouched(monkeypatch):
    """Digits alone on a black canvas: neither clutter nor noise."""
    monkeypatch.setattr(digits_hard, "PATCHES", (0, 0))
    monkeypatch.setattr(digits_hard, "NOISE", 0)


def test_train_holds_thirty_images_of_every_class_and_test_all_others(splits, labels):
    train, test = (np.bincount(splits[name].labels[:, 0]) for name in ("train", "test"))
    assert train.tolist() == [30] * 10
    assert (train + test).tolist() == np.bincount(labels).tolist()


def test_the_splits_part_the_rows_of_scikit_learn_in_its_order(splits, labels):
    train = in_train(labels)
    assert splits["train"].labels[:, 0].tolist() == labels[train].tolist()
    assert splits["test"].labels[:, 0].tolist() == labels[~train].tolist()


@pytest.mark.parametrize(
    ("split", "digest"),
    [
        ("train", "c36fc57cc96306ce055c31ffd543e7f495edcea80c6fadc2b924f972e74e2352"),
        ("test", "05ebcd4cff33ba0825e00fc4f84a35fe82266b8530b70ffa4e226f298260930c"),
    ],
)
def test_the_images_are_the_published_ones(splits, split, digest):
    # Golden: another value means that every figure measured on digits_hard 1.0.0 is void.
    assert hashlib.sha256(splits[split].images.tobytes()).hexdigest() == digest


def test_the_documented_mean_and_std_are_those_of_train(splits):
    shares = splits["train"].images / 255
    found = f"mean {shares.mean():.4f} and standard deviation {shares.std():.4f}"
    assert found in " ".join(digits_hard.DigitsHard.DESCRIPTION.split())
    assert f"mean ({shares.mean():.3f},) and std ({shares.std():.3f},)" in digits_hard.__doc__


@pytest.mark.parametrize(
    "fact",
    [
        f"{digits_hard.TRAIN_PER_CLASS} images of every class",
        f"canvas of {digits_hard.SIDE}x{digits_hard.SIDE}",
        "{} to {} patches".format(*digits_hard.PATCHES),
        "each {} or {} pixels high and wide".format(*digits_hard.PATCH_SIDES),
        f"standard deviation {digits_hard.NOISE}",
    ],
)
def test_the_description_gives_the_numbers_that_are_used(fact):
    assert fact in " ".join(digits_hard.DigitsHard.DESCRIPTION.split())


def test_it_prepares_itself_on_first_use(splits, fresh_dir):
    assert len(splits["train"]) + len(splits["test"]) == 1797
    assert [path.name for path in (fresh_dir / "digits_hard").iterdir()] == ["1.0.0"]


def test_a_digit_lies_whole_on_the_canvas(untouched, pixels):
    image = hard_image(pixels, 5, np.arange(100))
    windows = np.lib.stride_tricks.sliding_window_view(image, (8, 8))
    assert (windows == pixels[5]).all((-1, -2)).any()
    assert image.sum() == pixels[5].sum()


def test_digits_lie_at_every_place_of_the_canvas(untouched):
    full = np.full((300, 8, 8), 255, np.uint8)
    corners = {
        tuple(np.argwhere(hard_image(full, row, np.arange(300)))[0].tolist()) for row in range(300)
    }
    assert corners == {(top, left) for top in range(5) for left in range(5)}


def test_clutter_is_dimmed_and_comes_from_the_other_rows_of_the_split_alone(monkeypatch):
    monkeypatch.setattr(digits_hard, "NOISE", 0)
    pixels = np.zeros((3, 8, 8), np.uint8)
    pixels[0], pixels[1], pixels[2] = 0, 200, 255  # the digit, its split's other, another split's
    image = hard_image(pixels, 0, np.array([0, 1]))
    assert set(np.unique(image).tolist()) == {0, 100}
    # The smallest patch is 3x3, and five of at most 4x4 cover no more than 80.
    assert 9 <= (image > 0).sum() <= 80


def test_the_digit_lies_above_the_clutter(monkeypatch):
    monkeypatch.setattr(digits_hard, "NOISE", 0)
    pixels = np.full((2, 8, 8), 255, np.uint8)
    pixels[0] = 130
    image = hard_image(pixels, 0, np.array([0, 1]))
    assert (image == 130).sum() == 64
    assert set(np.unique(image).tolist()) <= {0, 127, 130}


def test_noise_has_the_documented_mean_and_deviation():
    noise = [digits_hard._Draws(row).normal((12, 12), 24) for row in range(100)]
    # Four standard errors of 14,400 draws.
    assert abs(np.mean(noise)) < 4 * 24 / 120
    assert np.std(noise) == pytest.approx(24, abs=4 * 24 / 120 / 2**0.5)


def test_an_image_is_a_function_of_its_row(pixels):
    rows = np.arange(50)
    first, again, other = (hard_image(pixels, row, rows) for row in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
