"""Means of arms and their differences, with intervals over seeds and images (law 8).

An arm of an experiment is an array (S, N): a value for each of S training seeds and N test images,
such as whether the image was told right, its mean over random draws, or the share of the blocks
that it used. Both are samples, so both are resampled, crossed: a resample draws S seeds and N
images with replacement, and takes the same of both arms.

A plain bootstrap of that kind is too narrow where seeds differ (resampling S of S spreads by only
(S-1)/S of the variance, and is more ragged than t) and too wide where they do not (it counts the
noise of single values up to three times). So it is corrected. The deviations from the mean are
parted into effects of seeds, effects of images and the rest; each part is resampled and then
scaled to the variance that an analysis of variance gives it; and the sum is stretched by the
quantile of t over that of the normal, with Satterthwaite's degrees of freedom: by 1 where images
decide, by 2.2 where three seeds do. In simulations the 95 % intervals of three seeds hold the
truth in 91 % of the experiments where seeds decide all, in 93 to 97 % elsewhere, and are of the
right width or a tenth wider. Those of two seeds come down to 87 % though they are twice as wide:
use three or more.

References:
  Owen 2007, The pigeonhole bootstrap (crossed resampling, and how it counts noise three times).
  Carpenter, Goldstein and Rasbash 2003, A novel bootstrap procedure (effects rescaled).
  Satterthwaite 1946, An approximate distribution of estimates of variance components.
"""

import dataclasses

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from jax_elastic.errors import UsageError

Floats = npt.NDArray[np.float64]
LEVEL = 0.95
POWER = 0.8
RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes:
      mean: of all values, or of all differences.
      low: lower end, the 2.5 % quantile of the resampled means.
      high: upper end, their 97.5 % quantile.
      detectable: the smallest true difference that such a design would find (two-sided at 5 %)
        with a probability of 80 %: (1.96 + 0.84) times the standard deviation of the
        resampled means.
    """

    mean: float
    low: float
    high: float
    detectable: float


def paired_difference(
    ours: npt.ArrayLike, theirs: npt.ArrayLike, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """How much more `ours` is than `theirs`, on average over seeds and images.

    Args:
      ours: (S, N) a value for each seed and image, S and N >= 2.
      theirs: (S, N) those of the other arm, for the same seeds and images in the same order.
      resamples: how many means the interval is read from.
      seed: of the resampling.

    Raises:
      UsageError: unequal shapes, or as `mean_interval`.
    """
    left, right = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if left.shape != right.shape:
        raise UsageError(
            f"arms of shapes {left.shape} and {right.shape} cannot be paired",
            "the same seeds and the same images, in the same order",
        )
    return mean_interval(left - right, resamples, seed)


def mean_interval(values: npt.ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean of one arm over seeds and images.

    Args:
      values: (S, N) a value for each seed and image, S and N >= 2.
      resamples: how many means the interval is read from.
      seed: of the resampling.

    Raises:
      UsageError: values that are no (S, N) or not finite, or fewer than two seeds or images.
    """
    array = np.asarray(values, np.float64)
    _check(array)
    return _interval(array, resamples, seed)


def mean_over_seeds(values: npt.ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """The mean over seeds alone, of values that no images were sampled for.

    Args:
      values: (S,) a value for each seed, S >= 2; of two arms the difference of each seed.
      resamples: how many means the interval is read from.
      seed: of the resampling.

    Raises:
      UsageError: values that are no (S,) or not finite, or fewer than two seeds.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise UsageError(f"values of shape {array.shape} are no interval", "(seeds,), at least 2")
    _check_finite(array)
    return _interval(array[:, None], resamples, seed)


def _interval(array: Floats, resamples: int, seed: int) -> Interval:
    """Of (S, N); where N is 1 nothing is sampled but seeds."""
    mean = float(array.mean())
    deviations = _deviations(array, resamples, np.random.default_rng(seed))
    tail = (1 - LEVEL) / 2
    low, high = mean + np.quantile(deviations, (tail, 1 - tail))
    wanted = norm.ppf(1 - tail) + norm.ppf(POWER)
    return Interval(mean, float(low), float(high), float(wanted * deviations.std()))


def _check(values: Floats) -> None:
    if values.ndim != 2:
        raise UsageError(f"values of shape {values.shape} are no (seeds, images)")
    if min(values.shape) < 2:
        raise UsageError(
            f"an interval over {values.shape[0]} seeds and {values.shape[1]} images",
            "at least 2 of each",
            "train with more seeds; three tell much more than two",
        )
    _check_finite(values)


def _check_finite(values: Floats) -> None:
    if not np.isfinite(values).all():
        raise UsageError(f"{(~np.isfinite(values)).sum()} of {values.size} values are not finite")


def _deviations(values: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """(resamples,) how far resampled means lie from the mean."""
    S, N = values.shape
    centred = values - values.mean()
    seeds, images = centred.mean(1), centred.mean(0)
    rest = centred - seeds[:, None] - images
    # How often each seed and each image is drawn, as shares: (resamples, S), (resamples, N).
    of_seeds, of_images = (
        generator.multinomial(size, np.full(size, 1 / size), resamples) / size for size in (S, N)
    )
    parts = of_seeds @ seeds, of_images @ images, (of_seeds * (of_images @ rest.T)).sum(1)
    # The variance of each part as it is, and as it should be: an unbiased mean square less that
    # of the rest, which is in the means of seeds and of images too.
    variances = np.array([(part**2).sum() / part.size**2 for part in (seeds, images, rest)])
    # Of a single column nothing is left for images and the rest: 0, whatever it is divided by.
    freedom = np.maximum([S - 1, N - 1, (S - 1) * (N - 1)], 1)
    squares = variances * [S, N, S * N] / freedom
    wanted = np.maximum(squares - [squares[2], squares[2], 0], 0)
    scale = np.sqrt(np.divide(wanted, variances, out=np.zeros(3), where=variances > 0))
    deviations: Floats = _stretch(wanted, freedom) * (scale @ np.stack(parts))
    return deviations


def _stretch(variances: Floats, degrees: npt.NDArray[np.int64]) -> float:
    """How much wider than the normal's is the interval of a sum of estimated variances."""
    if not variances.any():
        return 1.0
    freedom = variances.sum() ** 2 / (variances**2 / degrees).sum()
    return float(t.ppf((1 + LEVEL) / 2, freedom) / norm.ppf((1 + LEVEL) / 2))
