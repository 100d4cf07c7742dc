"""Ratios of times are paired by round; nothing is timed here."""

import numpy as np
import pytest

from benchmarks.timing import Ratio
from jax_elastic.inference.timing import interleaved


def test_every_round_runs_everything_once_and_the_order_turns():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "abc"}

    seconds = interleaved(runs, 2)

    assert "".join(calls) == "abc" + "abc" + "bca"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2, "c": 2}


@pytest.mark.parametrize("most,kept", [(None, None), (0.5, True), (0.4, False)])
def test_a_ratio_is_the_median_of_the_rounds_ratios(most, kept):
    seconds = {"quick": np.array([1.0, 5.0, 9.0]), "slow": np.array([2.0, 10.0, 1.0])}

    row = Ratio("quick", "slow", most).row(seconds)

    assert row["ratio"] == 0.5
    assert row["kept"] is kept
    assert row["rounds"] == 3
