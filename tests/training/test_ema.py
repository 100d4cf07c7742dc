"""The moving average of variables: what is averaged, and how fast."""

import jax.numpy as jnp
import numpy as np
import pytest

from jax_elastic.training.ema import RAMP, moving_average

OLD = {
    "params": {"w": jnp.float32([1.0, 2.0])},
    "stats": {"var": jnp.ones(2), "count": jnp.int32(3)},
}
NEW = {
    "params": {"w": jnp.float32([3.0, 6.0])},
    "stats": {"var": jnp.zeros(2), "count": jnp.int32(4)},
}


def test_parameters_and_statistics_are_averaged_and_counts_are_taken():
    found = moving_average(OLD, NEW, 0.75, jnp.int32(10**6))
    np.testing.assert_allclose(found["params"]["w"], [1.5, 3.0], rtol=1e-6)
    np.testing.assert_allclose(found["stats"]["var"], 0.75, rtol=1e-6)
    assert found["stats"]["count"] == 4
    assert found["stats"]["count"].dtype == jnp.int32


@pytest.mark.parametrize("step,decay", [(0, 1 / RAMP), (10, 11 / 20), (10**6, 0.9)])
def test_a_young_average_moves_faster(step, decay):
    found = moving_average({"w": jnp.float32(1)}, {"w": jnp.float32(0)}, 0.9, jnp.int32(step))
    np.testing.assert_allclose(found["w"], decay, rtol=1e-6)
