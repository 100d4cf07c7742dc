"""Times run in turn as tables: medians of paired ratios, which is what noisy machines leave."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jax_elastic.evaluation.tables import Column
from jax_elastic.inference.timing import Floats


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


def repeated(once: Callable[[], object], times: int) -> Callable[[], None]:
    """A run several times over."""

    def run() -> None:
        for _ in range(times):
            once()

    return run


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
