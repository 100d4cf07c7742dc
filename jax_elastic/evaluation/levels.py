"""Label levels of an evaluation: the finest alone, or the finest that is accurate enough.

A small operating point that cannot tell sparrows apart may still tell that it sees a sparrow: for
an accuracy that is wanted, each point answers at the finest level where it has that accuracy.

References:
  Anytime Neural Prediction via Slicing Networks Vertically (2018), section 4.3.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from jax_elastic.elastic.family import Family
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import Row

AnyRow = TypeVar("AnyRow", bound=Row)


class Answer(NamedTuple):
    """How an operating point answers.

    Attributes:
      subnet: the operating point.
      asked: the budget that was asked for, if any.
      row: that of the level at which it answers; None where it is accurate enough at none.
      coarsest: the row of its coarsest level.
    """

    subnet: str
    asked: float | None
    row: Row | None
    coarsest: Row


def at_finest(rows: Sequence[AnyRow]) -> list[AnyRow]:
    """The rows of the finest label level, which is all of them where there is one level."""
    return [row for row in rows if row.get("level", 0) == 0]


def finest_reaching(rows: Sequence[Row], accuracy: float) -> list[Answer]:
    """The finest level at which each operating point reaches an accuracy.

    Args:
      rows: of an `Evaluation` of a network that `check_levels` lets pass; of validation images,
        for test data never choose (law 7).
      accuracy: the top-1 that is wanted, in (0, 1].

    Returns:
      One answer per operating point and budget, in the order of the rows.

    Raises:
      UsageError: see `check_accuracy`; or the rows are those of one label level.
    """
    check_accuracy(accuracy)
    if any("level" not in row for row in rows):
        raise _no_levels()
    points: dict[tuple[str, float | None], list[Row]] = {}
    for row in sorted(rows, key=lambda row: int(row["level"])):
        points.setdefault((row["subnet"], row["asked"]), []).append(row)
    return [
        Answer(*point, _first(points[point], accuracy), points[point][-1])
        for point in dict.fromkeys((row["subnet"], row["asked"]) for row in rows)
    ]


def check_accuracy(accuracy: float) -> None:
    """Refuses what is no accuracy to reach.

    Raises:
      UsageError: it is outside (0, 1].
    """
    if not 0 < accuracy <= 1:
        raise UsageError(
            f"accuracy {accuracy:g} is outside (0, 1]",
            next_step="give the share of images to tell right, for example 0.9",
        )


def check_levels(network: Family) -> None:
    """Refuses a network that leaves no level to choose.

    Raises:
      UsageError: it has one label level.
    """
    if len(network.classes) == 1:
        raise _no_levels()


def _no_levels() -> UsageError:
    return UsageError(
        "this network has one label level, so there is none to choose",
        "a network of several",
        "train one with config.data.taxonomy, see docs/taxonomies.md",
    )


def _first(rows: Sequence[Row], accuracy: float) -> Row | None:
    return next((row for row in rows if row["top1"] >= accuracy), None)
