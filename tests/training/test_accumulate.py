"""A batch in parts: the same step as the whole batch."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from warm import cast, random_batch, some_draws, warmed

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.family import Aux
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.errors import UsageError
from jax_elastic.training.accumulate import accumulate
from jax_elastic.training.phases import Phase, make_optimizer, spans
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import make_step

BACKBONE = ResNet((1,), width=4, classes=5)
BATCH = 16
# p = 0: gates draw nothing.
NETWORKS = {
    "plain": (Plain(BACKBONE, dtype="float64"), "base"),
    "urnet": (URNet(BACKBONE, dtype="float64", p=0.0), "gated"),
}


def one_step(name, parts, bn):
    """The state and sums after one step in float64, as arrays of the host."""
    network, objective = NETWORKS[name]
    phase = Phase("only", 1, objective, 0.1, batch_size=BATCH, accumulate=parts, bn=bn)
    optimizer = make_optimizer(spans((phase,), BATCH)[0])
    with jax.enable_x64(True):
        variables, batch = cast(warmed(network), "float64"), random_batch(BATCH, dtype="float64")
        opt_state = optimizer.init(variables["params"])
        state = TrainState(*variables.values(), opt_state, jnp.int32(0), jnp.uint32(0))
        step = jax.jit(make_step(network, phase, optimizer, "sliced"))
        return jax.device_get(step(state, batch, some_draws(network, objective)))


whole = functools.cache(functools.partial(one_step, parts=1))


@pytest.mark.parametrize("parts", [2, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_in_parts_is_the_step_of_the_whole_batch(name, parts):
    state, sums = one_step(name, parts, bn="running")
    expected, expected_sums = whole(name, bn="running")
    # Rounding of float64 over a batch; law 1's tolerance.
    chex.assert_trees_all_close(state, expected, rtol=0, atol=1e-10)
    # Shares of open blocks are float32 sums.
    chex.assert_trees_all_close(sums, expected_sums, rtol=1e-6)


def test_batch_norm_sees_each_part_by_itself_and_its_statistics_are_updated_once():
    state, _ = one_step("plain", 2, bn="batch")
    expected, _ = whole("plain", bn="batch")
    own, other = state.stats["stem"]["bn"], expected.stats["stem"]["bn"]
    assert own["count"] == other["count"]
    # The first layer's mean is the mean of the parts' means; their variances leave out how
    # the means differ.
    np.testing.assert_allclose(own["mean"], other["mean"], rtol=1e-9, atol=1e-12)
    assert (own["var"] <= other["var"]).all()
    assert (own["var"] < other["var"]).any()


def test_every_part_draws_with_a_key_of_its_own():
    parts = 4

    def grads(batch, key):
        """One number drawn, at the place of the part that the images are of."""
        drawn = jax.random.normal(key) * jax.nn.one_hot(batch["image"][0], parts)
        return (jnp.zeros(()), Aux({}, {})), drawn

    batch = {"image": jnp.arange(BATCH) % parts}
    _, drawn = accumulate(grads, batch, jax.random.key(0), parts)
    assert len(set(drawn.tolist())) == parts


def test_parts_that_are_not_equal_are_refused():
    with pytest.raises(UsageError, match="batch_size 16 of phase 'only' has no 3 equal parts"):
        Phase("only", 1, "base", 0.1, batch_size=16, accumulate=3)
