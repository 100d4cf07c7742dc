"""Whether two numbers of the same things come in the same order: Spearman's rank correlation."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from jax_elastic.evaluation.intervals import LEVEL, Floats


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


def rank_correlation(
    x: npt.ArrayLike, y: npt.ArrayLike, groups: Sequence[int] | None = None
) -> RankCorrelation | None:
    """Spearman's correlation of n pairs.

    The interval is Fisher's, normal in z = artanh of the correlation, of the variance that Bonett
    and Wright give it for ranks. It takes the pairs for independent, which blocks of one network
    are not: it says what so few pairs leave open, not what other seeds would give. A perfect order,
    at which z is infinite, counts as half of two neighbours changing places less.

    Args:
      x: float (n,).
      y: float (n,).
      groups: (n,), the group of each pair. With them it is the partial correlation given the group:
        of how far ranks lie from the mean rank of their group; each group beyond the first costs
        the interval a pair.

    Returns:
      None where there is no order: of k groups fewer than k + 3 pairs, or all x or all y of each
      group are equal.

    References:
      Bonett and Wright 2000, Sample size requirements for estimating Pearson, Kendall and Spearman
      correlations.
    """
    n = len(np.asarray(x))
    place = np.zeros(n, int) if groups is None else np.asarray(groups)
    left, right = (_within(rankdata(values), place) for values in (x, y))
    freedom = n - 2 - len(np.unique(place))
    if freedom < 1 or not left.any() or not right.any():
        return None
    value = float(left @ right / math.sqrt((left @ left) * (right @ right)))
    most = 1 - 6 / (n * (n**2 - 1))
    z = math.atanh(max(-most, min(most, value)))
    reach = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt((1 + value**2 / 2) / freedom)
    low, high = math.tanh(z - reach), math.tanh(z + reach)
    return RankCorrelation(value, min(low, value), max(high, value))


def _within(ranks: Floats, groups: npt.NDArray[np.int64]) -> Floats:
    """How far each lies from the mean of its group."""
    means = np.bincount(groups, ranks) / np.maximum(np.bincount(groups), 1)
    deviations: Floats = ranks - means[groups]
    return deviations
