"""What a learner's logits choose, and the gates that say the same."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_elastic.elastic.resizable.learner import ResizeLearner, choose, chosen, margin

# Few different numbers, so that many are equal.
LOGITS = hnp.arrays(np.float32, (4, 3), elements=st.sampled_from([-1, 0, 0.5, 3]))


def test_of_equal_logits_the_cheapest_is_chosen():
    logits = jnp.array([[1.0, 1, 0], [0, 2, 2], [3, 3, 3]])
    np.testing.assert_array_equal(choose(logits), [0, 1, 0])


@hypothesis.given(LOGITS)
def test_exactly_the_gate_of_the_chosen_candidate_is_open(logits):
    choice = np.asarray(choose(logits))
    gates = np.stack([margin(jnp.asarray(logits), candidate) for candidate in range(3)], 1)
    np.testing.assert_array_equal(gates >= 0, np.arange(3) == choice[:, None])


BAD = hnp.arrays(np.float32, (4, 3), elements=st.sampled_from([np.nan, np.inf, -np.inf, 0]))


@hypothesis.given(BAD)
def test_also_where_logits_are_not_finite(logits):
    # Otherwise an image would have the probe's answer and be counted among another candidate's.
    choice = np.asarray(choose(logits))
    gates = np.stack([margin(jnp.asarray(logits), candidate) for candidate in range(3)], 1)
    np.testing.assert_array_equal(gates >= 0, np.arange(3) == choice[:, None])


@pytest.mark.parametrize("candidate", [0, 1, 2])
def test_a_gate_says_how_far_a_candidate_is_ahead_of_the_best_other_one(candidate):
    logits = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    others = np.delete(logits, candidate, 1).max(1)
    np.testing.assert_array_equal(margin(logits, candidate), logits[:, candidate] - others)


def test_each_image_has_the_answer_of_its_candidate_among_those_that_are_allowed():
    answers = [(jnp.full((3, 2), place),) for place in range(2)]
    logits = jnp.array([[2.0, 1, 0], [1, 2, 0], [1, 0, 2]])
    found = chosen(answers, logits)
    np.testing.assert_array_equal(found.choice, [0, 1, 0])
    np.testing.assert_array_equal(found.logits[0], [[0, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(found.gates, [[-1], [1], [-1]])


def test_the_learner_is_three_convolutions_with_bn_and_a_classifier():
    shape = jax.ShapeDtypeStruct((1, 3, 3, 6), jnp.float32)
    learner = ResizeLearner(width=4, candidates=2)
    made = jax.eval_shape(lambda x: learner.init(jax.random.key(0), x, "running"), shape)
    kernels = {name: own["kernel"].shape for name, own in made["params"].items() if "kernel" in own}
    assert kernels == {
        "conv1": (1, 1, 6, 4),
        "conv2": (3, 3, 4, 4),
        "conv3": (3, 3, 4, 4),
        "logits": (4, 2),
    }
    assert set(made["stats"]) == {"bn1", "bn2", "bn3"}
