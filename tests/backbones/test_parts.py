"""A chain's parts, one after the other, are the network."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.layers import norm

SIDE = 12
CHAINS = [
    ResNet((2, 1), width=4),
    ResNet((1, 2), width=2, block="bottleneck"),
    ResNet((1, 1, 2), width=4, stem="imagenet"),
]


def network_and_images(chain):
    images = jnp.asarray(np.random.default_rng(0).normal(size=(3, SIDE, SIDE, 3)))
    return chain.module().init(jax.random.key(0), images, "running"), images


def run(chain, variables, x, bn):
    """The output of the last part, all parts' moments, and the maps that they read."""
    moments, maps = {}, []
    for part in chain.parts():
        maps.append((part.stage, x.shape[1]))
        x, found = part.run(part.take(variables), x, bn)
        if found:
            moments.setdefault(part.path[0], {}).update(found)
    return x, moments, maps


@pytest.mark.parametrize("bn", ["batch", "running"])
@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_the_parts_one_after_the_other_are_the_network(chain, bn):
    with jax.enable_x64(True):
        variables, images = network_and_images(chain)
        (expected, _), sown = chain.module().apply(variables, images, bn, mutable=["moments"])

        logits, moments, _ = run(chain, variables, images, bn)

        np.testing.assert_allclose(logits[0], expected[0], rtol=0, atol=1e-10)
        complete = norm.complete_moments(variables["stats"], moments)
        wanted = norm.complete_moments(variables["stats"], sown.get("moments"))
        chex.assert_trees_all_close(complete, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_every_part_that_follows_a_resize_reads_its_stages_standard_map(chain):
    variables, images = network_and_images(chain)
    _, _, maps = run(chain, variables, images, "running")
    first = {stage: side for stage, side in reversed(maps) if stage}
    assert tuple(first[i + 1] for i in range(len(first))) == chain.standard(SIDE)


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
def test_the_parts_read_every_variable_once(chain):
    variables, _ = network_and_images(chain)
    of_parts = [leaf for part in chain.parts() for leaf in jax.tree.leaves(part.take(variables))]
    everything = jax.tree.leaves({name: variables[name] for name in ("params", "stats")})
    assert sorted(map(id, of_parts)) == sorted(map(id, everything))


def test_variables_of_another_network_are_refused():
    variables, _ = network_and_images(CHAINS[0])
    *_, last = ResNet((2, 1, 1), width=4).parts()[:-1]
    with pytest.raises(ValueError, match="stage3"):
        last.take(variables)
