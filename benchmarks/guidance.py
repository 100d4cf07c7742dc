"""What a guided network was taught to drop for each test image, and how decided its gates are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jax_elastic.data.augment import normalise
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.data.order import padded_batches
from jax_elastic.elastic.family import Array, Family, Variables
from jax_elastic.elastic.sgad.sgad import SGAD

Floats = npt.NDArray[np.float64]
BATCH = 500


def guidance(
    network: Family, variables: Variables, dataset: Dataset, data: DataConfig
) -> dict[str, list[Floats]]:
    """What is known of each image of a split besides what the network did with it.

    Args:
      network: of any family.
      variables: as training left them.
      dataset: the split.
      data: how images are normalised.

    Returns:
      Of a network whose gates are planned from the stem's output `decided`, |2 sigmoid(z) - 1| on
      average over the gates: 0 where their logits z are at the threshold, 1 where they are
      saturated. Where something is expected of its images also `expected`, the share of blocks to
      drop. Both (n,), in a list of one. Nothing of other networks.
    """
    if not isinstance(network, SGAD):
        return {}
    parts = []
    for batch in padded_batches(dataset, BATCH):
        images = normalise(jnp.asarray(batch["image"]), data)
        there = batch["mask"] > 0
        parts.append(
            {k: np.asarray(v)[there] for k, v in _told(network, variables, images).items()}
        )
    return {name: [np.concatenate([part[name] for part in parts])] for name in parts[0]}


@functools.partial(jax.jit, static_argnums=0)
def _told(network: SGAD, variables: Variables, images: Array) -> dict[str, Array]:
    (prediction,) = network.predict(variables, images, (network.subnets.fullest,), None)
    gates = prediction.gates
    assert gates is not None
    found = {"decided": jnp.abs(2 * jax.nn.sigmoid(gates) - 1).mean(1)}
    if network.guideline != "none":
        found["expected"] = network.expected(variables, images)
    return found
