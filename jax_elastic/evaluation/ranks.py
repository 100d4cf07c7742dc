"""Whether two numbers of the same things come in the same order: Spearman's rank correlation."""

import dataclasses
import math

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, spearmanr

from jax_elastic.evaluation.intervals import LEVEL

LEAST = 4
"""Pairs that it takes: Fisher's interval of three has no width."""


@dataclasses.dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation with its 95 % interval.

    Attributes:
      value: in [-1, 1]; equal numbers share the mean of their ranks.
      low: lower end of the interval.
      high: upper end.
    """

    value: float
    low: float
    high: float


def rank_correlation(x: npt.ArrayLike, y: npt.ArrayLike) -> RankCorrelation | None:
    """Spearman's correlation of n pairs.

    The interval is Fisher's, normal in z = artanh of the correlation, of the variance that Bonett
    and Wright give it for ranks. It takes the pairs for independent, which blocks of one network
    are not: it says what so few pairs leave open, not what other seeds would give. A perfect order,
    at which z is infinite, counts as half of two neighbours changing places less.

    Args:
      x: float (n,).
      y: float (n,).

    Returns:
      None where there is no order: fewer than `LEAST` pairs, or all x or all y are equal.

    References:
      Bonett and Wright 2000, Sample size requirements for estimating Pearson, Kendall and Spearman
      correlations.
    """
    left, right = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n = len(left)
    if n < LEAST or np.ptp(left) == 0 or np.ptp(right) == 0:
        return None
    value = float(spearmanr(left, right).statistic)
    most = 1 - 6 / (n * (n**2 - 1))
    z = math.atanh(max(-most, min(most, value)))
    reach = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt((1 + value**2 / 2) / (n - 3))
    low, high = math.tanh(z - reach), math.tanh(z + reach)
    return RankCorrelation(value, min(low, value), max(high, value))
