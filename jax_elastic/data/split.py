"""Which images of a set are held out: stratified, and decided by an order alone."""

import numpy as np
import numpy.typing as npt


def held_out(
    labels: npt.NDArray[np.integer], share: float, order: npt.NDArray[np.integer]
) -> npt.NDArray[np.bool_]:
    """Marks the same share of every class.

    Args:
      labels: (N,) class of each image.
      share: of each class, in [0, 1]; a class of n images gives round(share * n).
      order: (N,) a permutation of 0 .. N-1; the images of a class that come first in it
        are held out.

    Returns:
      (N,) True where the image is held out.
    """
    mask = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        mask[members[: round(share * len(members))]] = True
    return mask
