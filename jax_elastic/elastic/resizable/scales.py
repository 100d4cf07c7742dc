"""The scales that a network chooses from, and what they make of its maps."""

import math
from collections.abc import Sequence

from jax_elastic.errors import UsageError
from jax_elastic.layers.resize import scaled

SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def check_ordered(scales: Sequence[float]) -> None:
    """Refuses scales that are no list of choices.

    Args:
      scales: of the standard side of a map.

    Raises:
      UsageError: there is none, one is repeated, out of order, not above 0 or not finite.
    """
    ordered = list(scales) == sorted(set(scales))
    if not scales or not ordered or not 0 < scales[0] <= scales[-1] < math.inf:
        raise UsageError(
            f"scales {scales} are not a list of choices",
            "each once, ascending, above 0",
            "for example (0.5, 0.75, 1.0)",
        )


def check_leaves_maps(smallest: float, standard: Sequence[int], side: int) -> None:
    """Refuses a smallest scale that leaves no pixel of some map.

    Args:
      smallest: the scale.
      standard: of each map that is resized the side at scale 1, in pixels.
      side: that of the image they come from.

    Raises:
      UsageError: it does; the map is named.
    """
    for number, of_map in enumerate(standard, 1):
        try:
            scaled(of_map, smallest)
        except UsageError as error:
            told = f"map {number} of {len(standard)} at side {side}"
            raise UsageError(f"{told}: {error}") from None
