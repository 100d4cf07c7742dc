import numpy as np
import pytest

from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.data.statistics import describe, mean_and_std


def test_mean_and_std_are_those_of_the_pixels_of_each_channel():
    images = np.random.default_rng(0).integers(256, size=(5, 3, 4, 3), dtype=np.uint8)

    mean, std = mean_and_std(images)

    # Both are means of 60 float64 numbers; only the order of summation differs.
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-12)


@pytest.mark.parametrize("level", [0, 255])
def test_equal_pixels_have_no_std(level):
    assert mean_and_std(np.full((2, 2, 2, 1), level, np.uint8)) == ((level / 255,), (0.0,))


def test_a_set_is_described_by_its_size_its_classes_and_the_flags_of_a_config():
    lines = describe("digits", (8, 8, 1)).splitlines()

    mean, std = mean_and_std(load(DataConfig(validation=0), "train").images)
    assert lines == [
        "1438 images to train, 359 to test, 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "--config.data.name=digits",
        "'--config.data.image_shape=(8,8,1)'",
        f"'--config.data.mean=({mean[0]:.4f},)'",
        f"'--config.data.std=({std[0]:.4f},)'",
    ]
