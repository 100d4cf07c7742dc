"""Intervals of an accuracy: over the images that were seen, and over random draws."""

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from scipy.stats import t as student_t

Floats = npt.NDArray[np.float64]


def confidence_interval(hits: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share: `hits` of `n`."""
    interval = binomtest(hits, n).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def draws_interval(top1: Floats) -> tuple[float, float]:
    """The 95 % t-interval of a mean over random draws, or points: at least two accuracies (n,)."""
    mean, error = float(top1.mean()), float(top1.std(ddof=1)) / len(top1) ** 0.5
    reach = float(student_t.ppf(0.975, len(top1) - 1)) * error
    return max(0.0, mean - reach), min(1.0, mean + reach)
