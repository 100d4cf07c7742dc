"""A chain whole and part by part, with random variables that nothing is compiled for."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from warm import placed


@functools.cache
def shapes_of(chain, side=32):
    """The shapes of a chain's variables for square colour images."""
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    init = functools.partial(chain.reference().module().init, bn="running")
    return jax.eval_shape(init, jax.random.key(0), image)


def size_of(params):
    """The number of parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def random_variables(chain, dtype="float64"):
    """Every number random, variances and scales positive."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            spread = math.sqrt(2 / math.prod(leaf.shape[-4:-1]))
            return placed(rng.normal(scale=spread, size=leaf.shape), dtype)
        kept = leaf.dtype if leaf.dtype == jnp.int32 else dtype
        return placed(rng.uniform(0.5, 2, leaf.shape), kept)

    return jax.tree_util.tree_map_with_path(draw, shapes_of(chain))


def whole(chain, variables, images, bn):
    """Logits and moments of the network."""
    out, sown = chain.module().apply(variables, images, bn, mutable=["moments"])
    logits, *_ = jax.tree.leaves(out)  # residual networks also say what their blocks gave
    return logits, sown.get("moments", {})


def in_parts(chain, variables, images, bn):
    """Logits and moments of the network's parts, one after the other."""
    x, moments = images, {}
    for part in chain.parts():
        x, sown = part.run(part.take(variables), x, bn)
        if sown:
            moments.setdefault(part.path[0], {}).update(sown)
    return x[0], moments


def maps_of(chain, side):
    """Side of the map that the first part of each stage reads, where nothing is resized."""
    x, found = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32), {}
    for part in chain.reference().parts():
        found.setdefault(part.stage, x.shape[1])
        run = functools.partial(part.run, bn="running")
        x, _ = jax.eval_shape(run, part.take(shapes_of(chain)), x)
    return tuple(found[stage] for stage in sorted(found) if stage)


def path_of(keys):
    """The path of a variable as one word, e.g. ``params/stem/conv/kernel``."""
    return "/".join(key.key for key in keys)


def names_of(variables):
    """The path of each variable."""
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    return [path_of(keys) for keys, _ in flat]


def names_read(chain, variables):
    """The same of what the parts read, in order, as often as they do."""
    return [
        "/".join((collection, *part.path, name))
        for part in chain.parts()
        for collection, own in part.take(variables).items()
        for name in names_of(own)
    ]
