"""Which sub-networks a training step runs: one scale index per stage for each of them.

References:
  Resizable Neural Networks (ICLR 2020 submission): fair sampling, and the naive sampling it is
  compared with.
"""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int32]


def fair(rng: np.random.Generator, scales: int, stages: int) -> Indices:
    """Sub-networks that together use every scale of every stage exactly once.

    Args:
      rng: all that the result is a function of.
      scales: m, of each stage.
      stages: n.

    Returns:
      int32 (m, n): a row is a sub-network, its scale index at each stage. As a set the rows are
      those of uniform random permutations of range(m), one for each stage, independent of one
      another. They are ordered by the first column, which is therefore 0, ..., m - 1: a step adds
      them up, so their order would only be another program.
    """
    every = np.repeat(np.arange(scales, dtype=np.int32)[:, None], stages, 1)
    permuted = rng.permuted(every, axis=0)
    return permuted[np.argsort(permuted[:, 0])]


def independent(rng: np.random.Generator, scales: int, stages: int) -> Indices:
    """As many sub-networks as `fair` gives, each stage of each at a scale of its own.

    Args:
      rng: all that the result is a function of.
      scales: m, of each stage.
      stages: n.

    Returns:
      int32 (m, n), every entry uniform in range(m) and independent of the others.
    """
    return rng.integers(scales, size=(scales, stages), dtype=np.int32)
