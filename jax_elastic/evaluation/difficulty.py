"""Whether harder images are given more: what each one used, held against how hard it is."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.evaluate import Evaluation, Row
from jax_elastic.evaluation.intervals import LEVEL, Floats
from jax_elastic.evaluation.ranks import rank_correlation
from jax_elastic.evaluation.tables import Column, format_count

QUARTERS = ("easiest", "second", "third", "hardest")
OVER_IMAGES = (
    "intervals are over the images, of this one network; networks of other seeds can differ by more"
)
LEAST = 8  # images: two in each quarter, so that there is an interval


@dataclasses.dataclass(frozen=True)
class Spent:
    """What each image used at one row of an evaluation.

    Attributes:
      row: of the evaluation.
      used: (n,), open blocks, or MACs where an image chooses what it runs.
      unit: `blocks` or `MACs`.
      loss: (n,), how hard each image is: a cross-entropy in nats.
    """

    row: Row
    used: Floats
    unit: str
    loss: Floats


def spent(found: Evaluation, loss: Floats | None = None) -> list[Spent]:
    """What images used, and how hard they are, per row in which they may differ.

    Args:
      found: of it the finest label level.
      loss: (n,), each image's cross-entropy under another network; None takes that of each row.

    Raises:
      UsageError: losses of another number of images.
    """
    found = found.at_finest()
    pairs = []
    for i, row in enumerate(found.rows):
        own = found.loss[i] if loss is None else loss
        if len(own) != row["n"]:
            raise UsageError(f"{len(own)} losses for {row['n']} images", "one for each image")
        opened = found.opened[i]
        if opened is not None:
            pairs.append(Spent(row, opened.sum(1), "blocks", own))
        elif found.choice[i] is not None:
            pairs.append(Spent(row, found.macs[i], "MACs", own))
    return pairs


def difficulty_row(pair: Spent) -> Row:
    """How the images of each quarter of the losses, and of all, differ in what they used.

    Args:
      pair: of `LEAST` images or more.

    Returns:
      `subnet, asked, n, unit`; per quarter, the easiest images first, `loss_from` (the least loss
      in it), `used_mean` and `used_ci95` (Student's t over its images); `hardest_less_easiest` and
      its `_ci95` (Welch's t over the images of both); `spearman`, the rank correlation of loss and
      use, and `spearman_ci95`, both None where all images use the same; see `rank_correlation`. All
      intervals are over the images, see `OVER_IMAGES`.

    Raises:
      UsageError: fewer images.
    """
    count = len(pair.loss)
    if count < LEAST:
        raise UsageError(f"{count} images make no quarters", f"{LEAST} or more")
    quarter = quarters(pair.loss)
    parts = [pair.used[quarter == i] for i in range(4)]
    means = [float(part.mean()) for part in parts]
    further = means[3] - means[0]
    order = rank_correlation(pair.loss, pair.used)
    return {
        "subnet": pair.row["subnet"],
        "asked": pair.row["asked"],
        "n": count,
        "unit": pair.unit,
        "loss_from": [float(pair.loss[quarter == i].min()) for i in range(4)],
        "used_mean": means,
        "used_ci95": [_interval(mean, part) for mean, part in zip(means, parts, strict=True)],
        "hardest_less_easiest": further,
        "hardest_less_easiest_ci95": _interval(further, parts[3], parts[0]),
        "spearman": order and order.value,
        "spearman_ci95": order and (order.low, order.high),
    }


def quarters(loss: Floats) -> npt.NDArray[np.int64]:
    """In which quarter each image lies, 0 to 3; (n,). Of equal losses the first is the lower."""
    places = np.empty(len(loss), np.int64)
    places[np.argsort(loss, kind="stable")] = np.arange(len(loss))
    found: npt.NDArray[np.int64] = 4 * places // len(loss)
    return found


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """The columns of a table of rows of `difficulty_row`."""
    form = format_count if rows and rows[0]["unit"] == "MACs" else "{:z.2f}".format

    def of_quarter(i: int) -> Column:
        return Column("used_mean", QUARTERS[i], lambda means: form(means[i]))

    def between(ends: Sequence[float]) -> str:
        return f"[{form(ends[0])}, {form(ends[1])}]"

    return [
        Column("subnet", "subnet", left=True),
        *(
            [Column("asked", "asked", "{:g}".format)]
            if rows and rows[0]["asked"] is not None
            else []
        ),
        Column("unit", "used", left=True),
        *map(of_quarter, range(4)),
        Column("hardest_less_easiest", "hardest - easiest", form),
        Column("hardest_less_easiest_ci95", "95 % interval", between),
        Column("spearman", "rank corr.", "{:z.3f}".format),
        Column("spearman_ci95", "95 % interval", lambda ends: "[{:z.3f}, {:z.3f}]".format(*ends)),
    ]


def _interval(middle: float, *samples: Floats) -> tuple[float, float]:
    """Student's t-interval of a mean, or Welch's of the difference of two."""
    variances = np.array([sample.var(ddof=1) / len(sample) for sample in samples])
    total = float(variances.sum())
    if not total:
        return middle, middle
    freedom = total**2 / sum(v**2 / (len(s) - 1) for v, s in zip(variances, samples, strict=True))
    reach = float(student_t.ppf((1 + LEVEL) / 2, freedom)) * total**0.5
    return middle - reach, middle + reach
