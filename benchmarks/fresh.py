"""Networks as they are before training, for figures that do not depend on what was learnt."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_elastic.elastic.family import Array, Family, Variables


def variables(network: Family, image_shape: tuple[int, ...]) -> Variables:
    """Fresh weights for images (H, W, channels), with statistics that count as estimated."""
    images = jnp.zeros((1, *image_shape), jnp.float32)
    fresh = jax.jit(network.init)(jax.random.key(0), images)
    counted = jax.tree_util.tree_map_with_path(_counted, fresh["stats"])
    return {"params": fresh["params"], "stats": counted}


def images(size: int, image_shape: tuple[int, ...]) -> Array:
    """Noise (size, H, W, channels)."""
    drawn = np.random.default_rng(0).normal(size=(size, *image_shape))
    return jnp.asarray(drawn, jnp.float32)


def _counted(path: tuple[jax.tree_util.DictKey, ...], leaf: Array) -> Array:
    return leaf + 1 if path[-1].key == "count" else leaf
