"""Times of several things run in turn in one process: medians of paired ratios (noisy machines)."""

import dataclasses
import gc
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jax_elastic.evaluation.tables import Column

Floats = npt.NDArray[np.float64]


def interleaved(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Floats]:
    """Seconds of each run in each round, (rounds,); every round runs all, in a turning order.

    Args:
      runs: each returns when its work is done; called once before to compile and warm up.
      rounds: how often.
    """
    names = list(runs)
    seconds = {name: np.zeros(rounds) for name in names}
    for name in names:
        runs[name]()
    gc.collect()
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            begun = time.perf_counter()
            runs[name]()
            seconds[name][i] = time.perf_counter() - begun
    return seconds


@dataclasses.dataclass(frozen=True)
class Ratio:
    """One line of a benchmark's table.

    Attributes:
      name: what ran.
      baseline: what it is compared with, in the same rounds.
      most: the bar its median must keep, or None.
    """

    name: str
    baseline: str
    most: float | None = None

    def row(self, seconds: Mapping[str, Floats]) -> dict[str, Any]:
        """`form, baseline, ratio, low, high` (quartiles), `bar, kept, rounds`."""
        ratios = seconds[self.name] / seconds[self.baseline]
        low, ratio, high = (float(q) for q in np.quantile(ratios, (0.25, 0.5, 0.75)))
        return {
            "form": self.name,
            "baseline": self.baseline,
            "ratio": ratio,
            "low": low,
            "high": high,
            "bar": self.most,
            "kept": None if self.most is None else ratio <= self.most,
            "rounds": len(ratios),
        }


def load() -> dict[str, float]:
    """`load`: processes that wanted a core in the last minute, this one's threads among them."""
    return {"load": os.getloadavg()[0]}


def rows(ratios: Sequence[Ratio], seconds: Mapping[str, Floats]) -> list[dict[str, Any]]:
    """The rows of a table."""
    return [ratio.row(seconds) for ratio in ratios]


COLUMNS = (
    Column("form", "form", left=True),
    Column("baseline", "against", left=True),
    Column("ratio", "time ratio", "{:.2f}".format),
    Column("low", "25 %", "{:.2f}".format),
    Column("high", "75 %", "{:.2f}".format),
    Column("bar", "bar", "{:.2f}".format),
    Column("kept", "kept", lambda kept: "yes" if kept else "no"),
    Column("rounds", "rounds", str),
)
"""Of the table that a benchmark prints."""
