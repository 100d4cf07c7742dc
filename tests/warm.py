"""One small URNet for many tests, and random weights that a network can be run with.

Random weights are init plus one step's fold over random images: fresh BN statistics are 0 and 1,
and the package refuses to run with them (law 4).
"""

import jax
import jax.numpy as jnp
import numpy as np

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.family import When
from jax_elastic.elastic.urnet import URNet

# Five gates; a stack of two blocks, a first block with a stack of one, a first block alone.
BACKBONE = ResNet((2, 2, 1), width=8, classes=5)
SMALL = URNet(BACKBONE)


def random_images(size, seed=0):
    """Noise (size, 8, 8, 3), the same numbers in float32 and float64."""
    return np.random.default_rng(seed).normal(size=(size, 8, 8, 3)).astype(np.float32)


def random_batch(size, seed=0, dtype="float32", classes=5):
    """A batch of noise with random labels."""
    labels = np.random.default_rng(seed).integers(classes, size=size)
    return {
        "image": jnp.asarray(random_images(size, seed), dtype),
        "targets": (jax.nn.one_hot(labels, classes, dtype=dtype),),
        "mask": jnp.ones(size, dtype),
    }


def some_draws(network, objective, seed=0):
    """The draws of one step."""
    when = When(0, 0.0, "only", 0, 0.0, 1, objective)
    return network.draws(np.random.default_rng(seed), when)


def warmed(network, seed=0):
    """Variables of any family; the statistics of noise, under its first objective."""
    (objective, *_), (classes, *_) = network.objectives, network.classes

    @jax.jit
    def make(key, batch):
        variables = network.init(key, batch["image"])
        stats = variables["stats"]
        for draw in some_draws(network, objective):
            _, aux = network.loss(variables, batch, draw, key, objective, "batch")
            stats = network.fold(stats, aux)
        return {"params": variables["params"], "stats": stats}

    return make(jax.random.key(seed), random_batch(32, classes=classes))


def with_gate_logits(network, variables, logits):
    """The same weights, but block n's gate answers `logits[n]` to every image and budget."""
    params = jax.tree.map(np.array, variables["params"])
    for site, logit in zip(network.backbone.sites(), logits, strict=True):
        gate = params[site.path[0]][site.path[1]]["gate"]
        where = ... if site.index is None else site.index
        gate["logit"]["kernel"][where] = 0
        gate["logit"]["bias"][where] = logit
    return {"params": jax.tree.map(jnp.asarray, params), "stats": variables["stats"]}


def cast(variables, dtype):
    """The same variables as `dtype`, which are those of a network of that dtype; counts stay."""

    def of(leaf):
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(of, variables)
