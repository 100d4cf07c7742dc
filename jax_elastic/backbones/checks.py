"""What architectures are checked for at construction, whatever they are of."""

from typing import Literal, get_args

from jax_elastic.errors import UsageError

StemKind = Literal["cifar", "imagenet"]


def check_stem(kind: str) -> None:
    """Refuses a stem that there is not.

    Raises:
      UsageError: `kind` is neither `cifar` nor `imagenet`.
    """
    if kind not in get_args(StemKind):
        raise UsageError(f"stem {kind!r} is unknown", f"there are: {', '.join(get_args(StemKind))}")


def check_classes(classes: int) -> None:
    """Refuses a classifier that has nothing to choose from.

    Raises:
      UsageError: there are less than two classes.
    """
    if classes < 2:
        raise UsageError(f"classes {classes} is too few to tell apart", "2 or more")
