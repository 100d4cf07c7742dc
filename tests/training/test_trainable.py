"""Splitting parameters in what a phase trains and what it leaves alone."""

import re

import chex
import hypothesis
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from hypothesis import strategies as st

from jax_elastic.errors import UsageError
from jax_elastic.training.trainable import merge, partition

NAMES = st.sampled_from(["stem", "blocks", "gate", "gates", "kernel", "bias", "head"])
TREES = st.recursive(
    st.integers(0, 9).map(np.array),
    lambda nodes: st.dictionaries(NAMES, nodes, min_size=1, max_size=3),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))
PATTERNS = st.sampled_from(["gate", "/gate/", "^stem", "kernel$", "head|bias", ".*", "block"])

PARAMS = {
    "stem": {"kernel": np.zeros(1)},
    "stage1": {"gate": {"kernel": np.ones(1)}, "conv": {"kernel": np.full(1, 2)}},
}


@hypothesis.given(TREES, PATTERNS)
def test_merging_the_parts_gives_the_parameters_again(params, pattern):
    hypothesis.assume(any(re.search(pattern, path) for path in flatten_dict(params, sep="/")))
    chex.assert_trees_all_equal(merge(*partition(params, pattern)), params)


@hypothesis.given(TREES, PATTERNS)
def test_each_leaf_is_in_the_part_that_its_path_says(params, pattern):
    paths = set(flatten_dict(params, sep="/"))
    expected = {path for path in paths if re.search(pattern, path)}
    hypothesis.assume(expected)
    trainable, frozen = partition(params, pattern)
    assert set(flatten_dict(trainable, sep="/")) == expected
    assert set(flatten_dict(frozen, sep="/")) == paths - expected


def test_a_pattern_is_searched_in_the_whole_path():
    trainable, frozen = partition(PARAMS, "/gate/")
    assert trainable == {"stage1": {"gate": {"kernel": 1}}}
    assert set(frozen) == {"stem", "stage1"}
    assert set(frozen["stage1"]) == {"conv"}


def test_a_pattern_that_matches_everything_freezes_nothing():
    assert partition(PARAMS, ".*") == (PARAMS, {})


def test_a_pattern_that_matches_nothing_is_refused_with_some_names():
    with pytest.raises(UsageError) as error:
        partition(PARAMS, "/gates/")
    assert str(error.value) == (
        "trainable '/gates/' matches no parameter; parameters are called "
        "stage1/conv/kernel, stage1/gate/kernel, stem/kernel, ..."
    )


def test_a_pattern_that_is_no_regular_expression_is_refused():
    with pytest.raises(UsageError, match=r"trainable '\(' is no regular expression: missing \)"):
        partition(PARAMS, "(")
