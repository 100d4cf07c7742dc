"""Claims: a figure with its interval, what a paper says of it, and whether it holds here."""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from jax_elastic.evaluation.intervals import mean_interval
from jax_elastic.evaluation.tables import Column

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Claim:
    """A figure that is a mean over seeds and images.

    Attributes:
      text: what is claimed, or only measured.
      unit: of the figure: `points` (of 100), `share` (of the blocks or of the largest cost) or
        `correlation`.
      values: (seeds, images), whose mean is the figure; often differences of two arms.
      paper: the paper's figure in the same unit, or None.
      above: the claim holds where the whole interval lies above it, and does not where it lies
        below.
      below: the same the other way round.
      by_mean: whether the mean alone decides, as where a bar is set for the mean.
    """

    text: str
    unit: str
    values: Floats
    paper: float | None = None
    above: float | None = None
    below: float | None = None
    by_mean: bool = False

    def row(self) -> dict[str, Any]:
        """`claim, unit, paper, ours, low, high, detectable, verdict, seeds, images`."""
        found = mean_interval(self.values)
        low, high = (found.mean, found.mean) if self.by_mean else (found.low, found.high)
        seeds, images = self.values.shape
        return {
            "claim": self.text,
            "unit": self.unit,
            "paper": self.paper,
            "ours": found.mean,
            "low": found.low,
            "high": found.high,
            "detectable": found.detectable,
            "verdict": self._verdict(low, high),
            "seeds": seeds,
            "images": images,
        }

    def _verdict(self, low: float, high: float) -> str:
        if self.above is None and self.below is None:
            return "measured"
        above = -np.inf if self.above is None else self.above
        below = np.inf if self.below is None else self.below
        if (low > above and high < below) or (self.by_mean and above <= low <= below):
            return "holds"
        return "does not hold" if high < above or low > below else "not resolved"


def difference(ours: Floats, theirs: Floats) -> Floats:
    """Differences of two arms, paired: (seeds, images) of the same seeds and images."""
    if ours.shape != theirs.shape:
        raise ValueError(f"arms of shapes {ours.shape} and {theirs.shape} cannot be paired")
    return ours - theirs


def std(values: Floats) -> Floats:
    """Values (seeds, images) whose mean is the standard deviation over images, mean of the seeds.

    Each image's part in it, to first order (the delta method), so that their spread is the
    standard deviation's own.
    """
    squares = np.square(values - values.mean(1, keepdims=True))
    root = np.sqrt(squares.mean(1, keepdims=True))
    parts: Floats = root + (squares - root**2) / np.where(root > 0, 2 * root, 1)
    return parts


COLUMNS = (
    Column("claim", "claim", left=True),
    Column("paper", "paper", "{:.3g}".format),
    Column("ours", "ours", "{:.3g}".format),
    Column("low", "95 %", "{:.3g}".format),
    Column("high", "interval", "{:.3g}".format),
    Column("detectable", "detectable", "{:.2g}".format),
    Column("unit", "unit", left=True),
    Column("verdict", "verdict", left=True),
)
"""Of the table that `reproduce` prints."""
