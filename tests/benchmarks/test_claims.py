"""A claim's verdict follows from its interval and its bounds."""

import numpy as np
import pytest

from benchmarks.claims import Claim


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
        (0.0, 0.0, {"above": 0.0}, "does not hold"),
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
