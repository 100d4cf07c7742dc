"""The guideline: how sure a soft target is, and the share of blocks that this asks to drop."""

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jax_elastic.elastic.sgad.guideline import dropped_share, expected_drop, sureness

MAPPINGS = ("concave", "convex", "linear")


def test_where_all_classes_are_alike_nothing_is_sure_and_one_class_alone_is_all():
    found = sureness(jnp.array([[2.0] * 4, [99.0, 0, 0, 0], [99.0, 99.0, 0, 0]]))

    # Half and half of four: (2 (1/4)^2 + 2 (1/4)^2) / 4 of at most 3 / 16.
    np.testing.assert_allclose(found, [0, 1, 1 / 3], rtol=1e-6, atol=1e-7)


@hypothesis.given(
    hnp.arrays(np.float32, (3, 5), elements=st.floats(-8, 8, width=32)), st.sampled_from([1, 4])
)
def test_sureness_is_the_variance_as_a_share_of_the_largest_there_is(logits, temperature):
    wide = np.exp(logits.astype(np.float64) / temperature)
    soft = wide / wide.sum(1, keepdims=True)

    found = sureness(jnp.asarray(logits), temperature)

    # Float32 rounding of numbers up to 1.
    np.testing.assert_allclose(found, soft.var(1) / (4 / 25), atol=1e-5)


def test_at_a_higher_temperature_the_all_but_certain_differ():
    logits = jnp.array([[10.0, 0, 0, 0], [20.0, 0, 0, 0]])

    cold, warm = sureness(logits), sureness(logits, 4.0)

    np.testing.assert_allclose(cold, 1, atol=1e-3)
    assert warm[1] - warm[0] > 0.1


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_nothing_is_dropped_for_the_unsure_and_p_max_for_the_sure(mapping):
    found = expected_drop(jnp.array([0.0, 1.0]), 0.6, mapping)

    np.testing.assert_allclose(found, [0, 0.6], rtol=1e-6)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_the_surer_the_more_is_dropped(mapping):
    assert (jnp.diff(expected_drop(jnp.linspace(0, 1, 20), 0.6, mapping)) > 0).all()


@pytest.mark.parametrize("u", [0.1, 0.5, 0.9])
def test_a_concave_mapping_drops_more_than_a_line_and_a_convex_one_less(u):
    concave, convex, linear = (float(expected_drop(jnp.float32(u), 0.6, m)) for m in MAPPINGS)

    assert convex < linear < concave
    # One turned by half a turn is the other.
    mirrored = 0.6 - float(expected_drop(jnp.float32(1 - u), 0.6, "convex"))
    assert concave == pytest.approx(mirrored, rel=1e-5)


def test_what_is_dropped_is_counted_per_image():
    gates = jnp.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])

    np.testing.assert_array_equal(dropped_share(gates), [0.25, 1.0])
