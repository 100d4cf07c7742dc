"""Answers of a trained network, image by image: class, confidence, and what each of them cost."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jax_elastic import rng
from jax_elastic.data.augment import normalise
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.images import ImageFile
from jax_elastic.elastic.family import Family
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.rows import Row
from jax_elastic.inference.engine import Engine
from jax_elastic.subnet import Subnet


class Predictor:
    """A network at one operating point and budget, with what its answers are called and cost.

    Args:
      engine: of the network.
      network: the family.
      data: how images are normalised.
      subnet: the operating point.
      budget: the share of the blocks to spend, or None.
      class_names: of the first label level; None for their numbers.
    """

    def __init__(
        self,
        engine: Engine,
        network: Family,
        data: DataConfig,
        subnet: Subnet,
        budget: float | None,
        class_names: Sequence[str] | None,
    ):
        self._engine, self._network, self._data = engine, network, data
        self._subnet, self._budget, self._names = subnet, budget, class_names
        self._costs = CostModel(network, data.image_shape)
        self._most = self._costs.most(network.subnets.fullest)

    def __call__(self, images: Sequence[ImageFile], places: Sequence[int]) -> list[dict[str, Any]]:
        """Predicts a batch.

        Args:
          images: in the network's shape.
          places: their places among all images: what random gates are drawn from.

        Returns:
          A row per image: `file, subnet, label` (the class's number), `class` (its name, or the
          number as text), `confidence` (its softmax), `asked`, `blocks` (how many were open),
          `blocks_total`, `achieved` (their share), `opened` (a letter per block, 1 where it was
          open), `choice` (the operating point that the image chose), `macs`, `macs_share` (of the
          most that an image can cost at the fullest point), `size` ([height, width] of the file)
          and `changes` (see `ImageFile`). Keys of blocks are None without gates and where images
          choose, `choice` is None where they do not.

        Raises:
          UsageError: the logits are not finite; or see `Engine`.
        """
        batch = normalise(jnp.asarray(np.stack([image.pixels for image in images])), self._data)
        keys = rng.image_keys(np.array(places, np.int32)) if self._network.random else None
        found = self._engine(batch, self._subnet, self._budget, keys=keys)
        logits = np.asarray(found.logits[0], np.float64)
        if not np.isfinite(logits).all():
            raise UsageError(
                "the network's logits are not finite, so its answers mean nothing",
                next_step="look at how its training ended",
            )
        opened = None if found.gates is None else np.asarray(found.gates) >= 0
        macs = self._costs.of_images(self._subnet, (len(images),), opened, found.choice)
        chosen: list[str | None] = [None] * len(images)
        if found.choice is not None:
            # One of several candidates is no share of them.
            chosen, opened = [str(self._network.candidates[int(c)]) for c in found.choice], None
        confidence = _softmax(logits)
        return [
            {
                "file": str(image.path),
                "subnet": str(self._subnet),
                **self._answer(confidence[i]),
                "asked": self._budget,
                **_blocks(None if opened is None else opened[i]),
                "choice": chosen[i],
                "macs": int(macs[i]),
                "macs_share": float(macs[i] / self._most),
                "size": list(image.size),
                "changes": list(image.changes),
            }
            for i, image in enumerate(images)
        ]

    def _answer(self, confidence: npt.NDArray[np.float64]) -> Row:
        label = int(confidence.argmax())
        name = str(label) if self._names is None else self._names[label]
        return {"label": label, "class": name, "confidence": float(confidence[label])}


def _blocks(opened: npt.NDArray[np.bool_] | None) -> Row:
    """What is said of one image's blocks, (N,)."""
    if opened is None:
        return dict.fromkeys(("blocks", "blocks_total", "achieved", "opened"))
    return {
        "blocks": int(opened.sum()),
        "blocks_total": len(opened),
        "achieved": float(opened.mean()),
        "opened": "".join("1" if is_open else "0" for is_open in opened),
    }


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    shares: npt.NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return shares
