"""One small URNet for many tests, and random weights that a network can be run with.

Random weights come with one step's fold over random images: fresh BN statistics are 0 and 1, and
the package refuses to run with them (law 4).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.family import When
from jax_elastic.elastic.shapes import fresh_shapes
from jax_elastic.elastic.urnet.urnet import URNet

# Five gates; a stack of two blocks, a first block with a stack of one, a first block alone.
BACKBONE = ResNet((2, 2, 1), width=8, classes=5)
SMALL = URNet(BACKBONE)


def placed(values, dtype):
    """Numbers as a jax array, by NumPy: `jnp.asarray` compiles a conversion for each shape."""
    return jax.device_put(np.asarray(values, dtype))


def random_images(size, seed=0):
    """Noise (size, 8, 8, 3), the same numbers in float32 and float64."""
    return np.random.default_rng(seed).normal(size=(size, 8, 8, 3)).astype(np.float32)


def random_batch(size, seed=0, dtype="float32", classes=(5,)):
    """A batch of noise with random labels, one for each target that a loss reads."""
    labels = np.random.default_rng(seed).integers(classes[0], size=size)
    return {
        "image": placed(random_images(size, seed), dtype),
        "targets": tuple(placed(np.eye(n)[labels % n], dtype) for n in classes),
        "mask": placed(np.ones(size), dtype),
    }


def some_draws(network, objective, seed=0):
    """The draws of one step."""
    when = When(0, 0.0, "only", 0, 0.0, 1, objective)
    return network.draws(np.random.default_rng(seed), when)


def keys_of(network, size, seed=0):
    """One key per image for a network whose gates are random, else None."""
    return jax.random.split(jax.random.key(seed), size) if network.random else None


def shapes_of(network, image=(8, 8, 3)):
    """The shapes of a network's variables for images (H, W, channels)."""
    return fresh_shapes(network, image)


def random_weights(network, seed=0, image=(8, 8, 3)):
    """Variables of any family before a step: He's kernels, noise for the rest, no statistics.

    Drawn here because compiling `init` takes longer than all else of a small network.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        kind, noise = path[-1].key, rng.normal(size=leaf.shape)
        if kind == "kernel":
            # Height, width and channels; a stack has one axis more in front.
            fan_in = np.prod(leaf.shape[-4:-1]) if len(leaf.shape) > 3 else leaf.shape[-2]
            values = noise * np.sqrt(2 / fan_in)
        else:
            none = 0 * noise
            parts = {"scale": 1 + 0.1 * noise, "bias": 0.1 * noise, "var": 1 + none}
            values = {**parts, "mean": none, "count": none}[kind]
        return placed(values, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes_of(network, image))


@functools.cache
def _statistics(network, objective):
    """The jitted statistics after one step."""

    @jax.jit
    def step(variables, batch, draws, key):
        stats = variables["stats"]
        for draw in draws:
            _, aux = network.loss(variables, batch, draw, key, objective, "batch")
            stats = network.fold(stats, aux)
        return stats

    return step


def warmed(network, seed=0):
    """Variables of any family; the statistics of noise, under its last objective.

    That is the one that trains all of a network: what a family grows out of comes first. A network
    that stands on a frozen one has the statistics of that one's step, too.
    """
    variables = random_weights(network, seed)
    if hasattr(network, "base"):
        of_base = shapes_of(network.base)
        own = {name: {key: variables[name][key] for key in of_base[name]} for name in of_base}
        stats = _after_step(network.base, own, seed)
        variables = {**variables, "stats": {**variables["stats"], **stats}}
    return {"params": variables["params"], "stats": _after_step(network, variables, seed)}


def _after_step(network, variables, seed):
    """The statistics after one step of the last objective."""
    objective = network.objectives[-1]
    batch = random_batch(32, classes=network.targets)
    draws, key = some_draws(network, objective), jax.random.key(seed)
    return _statistics(network, objective)(variables, batch, draws, key)


def with_gate_logits(network, variables, logits):
    """The same weights, but block n's gate answers `logits[n]` to every image and budget."""
    params = jax.tree.map(np.array, variables["params"])
    for site, logit in zip(network.backbone.sites(), logits, strict=True):
        gate = params[site.path[0]][site.path[1]]["gate"]
        where = ... if site.index is None else site.index
        gate["logit"]["kernel"][where] = 0
        gate["logit"]["bias"][where] = logit
    return {"params": jax.tree.map(jax.device_put, params), "stats": variables["stats"]}


def cast(variables, dtype):
    """The same variables as `dtype`, which are those of a network of that dtype; counts stay."""

    def of(leaf):
        return placed(leaf, dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(of, variables)
