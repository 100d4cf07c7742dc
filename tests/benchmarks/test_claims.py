"""A claim's verdict follows from its interval and its bounds."""

import numpy as np
import pytest

from benchmarks.claims import Claim, difference, std


def values(mean, spread=0.0, seeds=3, images=200):
    """(seeds, images) around a mean, the same in every call."""
    noise = np.random.default_rng(0).normal(size=(seeds, images))
    return mean + spread * (noise - noise.mean())


@pytest.mark.parametrize(
    "mean,spread,bounds,verdict",
    [
        (1.0, 1.0, {}, "measured"),
        (1.0, 1.0, {"above": 0.0}, "holds"),
        (-1.0, 1.0, {"above": 0.0}, "does not hold"),
        (0.01, 1.0, {"above": 0.0}, "not resolved"),
        (-1.0, 1.0, {"below": 0.0}, "holds"),
        (1.0, 1.0, {"below": 0.0}, "does not hold"),
        (0.01, 1.0, {"above": 0.0, "by_mean": True}, "holds"),
        (-0.01, 1.0, {"above": 0.0, "by_mean": True}, "does not hold"),
        (0.0, 0.0, {"above": 0.0}, "not resolved"),
        (0.1, 0.0, {"below": 0.1, "by_mean": True}, "holds"),
    ],
)
def test_a_verdict_asks_the_whole_interval_or_the_mean_alone(mean, spread, bounds, verdict):
    assert Claim("a claim", "share", values(mean, spread), **bounds).row()["verdict"] == verdict


def test_a_row_says_what_was_found_and_what_could_have_been_found():
    row = Claim("a claim", "points", values(1.0, 1.0), paper=2.0).row()

    assert row["ours"] == pytest.approx(1.0)
    assert row["low"] < 1.0 < row["high"]
    assert row["detectable"] > 0
    assert (row["paper"], row["seeds"], row["images"]) == (2.0, 3, 200)


def test_arms_are_paired_by_seed_and_image_or_refused():
    assert difference(np.ones((3, 4)), np.zeros((3, 4))).sum() == 12
    with pytest.raises(ValueError, match="cannot be paired"):
        difference(np.ones((3, 4)), np.ones((3, 5)))


def test_the_parts_of_a_standard_deviation_have_it_as_their_mean():
    numbers = np.random.default_rng(0).normal(size=(3, 50)) * [[1.0], [2.0], [0.0]]

    assert np.allclose(std(numbers).mean(1), numbers.std(1))


def test_the_interval_of_a_standard_deviation_is_that_of_normal_numbers():
    # The standard error of the std of n normal numbers is std / sqrt(2 n).
    numbers = np.random.default_rng(0).normal(size=(3, 2000))

    row = Claim("a std", "share", std(numbers)).row()

    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 / np.sqrt(2 * 3 * 2000), rel=0.3)
