"""What an evaluation reads of each image: answers at every label level, gates, choices, weights."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from jax_elastic.elastic.family import Array, Prediction
from jax_elastic.errors import UsageError

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Found:
    """What was read of each image, (n, ...), or after `stack` of each draw, (draws, n, ...).

    Attributes:
      top1: whether the likeliest class was right, at each label level: (levels,).
      top5: whether one of the five likeliest was: (levels,).
      answer: the likeliest class, of equals the first: (levels,).
      loss: the cross-entropy in nats: (levels,).
      opened: which blocks were open: (N,); None without gates.
      choice: index into `Family.candidates`: (); None where nothing is chosen.
      weights: what blocks were multiplied by: (N,); None where they are taken whole.
    """

    top1: npt.NDArray[np.bool_]
    top5: npt.NDArray[np.bool_]
    answer: npt.NDArray[np.int32]
    loss: npt.NDArray[np.float64]
    opened: npt.NDArray[np.bool_] | None
    choice: npt.NDArray[np.int32] | None
    weights: npt.NDArray[np.float32] | None

    @staticmethod
    def concatenate(parts: list["Found"]) -> "Found":
        """Joins batches."""
        return Found._join(parts, np.concatenate)

    @staticmethod
    def stack(parts: list["Found"]) -> "Found":
        """Joins draws, along a new leading axis."""
        return Found._join(parts, np.stack)

    @staticmethod
    def _join(parts: list["Found"], how: Callable[..., Any]) -> "Found":
        def join(name: str) -> Any:
            arrays = [getattr(part, name) for part in parts]
            return None if arrays[0] is None else how(arrays)

        return Found(**{field.name: join(field.name) for field in dataclasses.fields(Found)})


def read(
    prediction: Prediction,
    labels: npt.NDArray[np.int32],
    there: npt.NDArray[np.bool_],
    levels: int,
) -> Found:
    """What a prediction says of the images of a batch.

    Args:
      prediction: of B images.
      labels: (B, at least `levels`).
      there: (B,) False for padding, which is left out.
      levels: label levels of the network.

    Raises:
      UsageError: the logits are not finite.
    """
    logits = [_finite(prediction.logits[d], there) for d in range(levels)]
    best = [_likeliest(of) for of in logits]
    right = [of == labels[there, d, None] for d, of in enumerate(best)]
    losses = [cross_entropies(of, labels[there, d]) for d, of in enumerate(logits)]
    gates, choice, weights = prediction.gates, prediction.choice, prediction.weights
    return Found(
        top1=np.stack([of[:, 0] for of in right], -1),
        top5=np.stack([of.any(1) for of in right], -1),
        answer=np.stack([of[:, 0] for of in best], -1),
        loss=np.stack(losses, -1),
        opened=None if gates is None else np.asarray(gates)[there] >= 0,
        choice=None if choice is None else np.asarray(choice)[there],
        weights=None if weights is None else np.asarray(weights)[there],
    )


def cross_entropies(logits: Floats, labels: npt.NDArray[np.int32]) -> Floats:
    """How unlikely each image's own class is held, in nats.

    It is read off the distance of the own logit from the others, so that images of which a network
    is very sure still differ: 1 less a probability would be 0 of all of them.

    Args:
      logits: (n, classes).
      labels: (n,).
    """
    own = labels[:, None]
    others = logits - np.take_along_axis(logits, own, axis=1)
    np.put_along_axis(others, own, -np.inf, axis=1)
    losses: Floats = np.logaddexp(0, np.logaddexp.reduce(others, axis=1))
    return losses


def _finite(logits: Array, there: npt.NDArray[np.bool_]) -> Floats:
    """(n, classes) of the images that are there."""
    values = np.asarray(logits, np.float64)[there]
    if not np.isfinite(values).all():
        raise UsageError(
            "the network's logits are not finite, so its accuracy means nothing",
            next_step="look at how its training ended",
        )
    return values


def _likeliest(logits: Floats) -> npt.NDArray[np.int32]:
    """(n, up to 5) the likeliest class, the second, ..."""
    return np.argsort(-logits, axis=-1, kind="stable")[:, :5].astype(np.int32)
