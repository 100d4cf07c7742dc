"""A step's sub-networks: fair ones share out the scales of every stage, naive ones do not."""

import hypothesis
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies as st

from jax_elastic.elastic.resizable.sampling import fair, independent

SCALES, STAGES, SEEDS = st.integers(1, 8), st.integers(1, 6), st.integers(0, 2**32)
SAMPLERS = [fair, independent]


def counts(sampler, scales, stages, draws):
    """How often each table (scales, stages) of those that were seen was drawn."""
    rng = np.random.default_rng(0)
    tables = [sampler(rng, scales, stages).tobytes() for _ in range(draws)]
    return np.unique(tables, return_counts=True)[1]


@hypothesis.given(SEEDS, SCALES, STAGES)
def test_fair_sub_networks_use_every_scale_of_every_stage_exactly_once(seed, scales, stages):
    table = fair(np.random.default_rng(seed), scales, stages)
    every = np.repeat(np.arange(scales)[:, None], stages, 1)
    np.testing.assert_array_equal(np.sort(table, 0), every)


@pytest.mark.parametrize("sampler", SAMPLERS)
@hypothesis.given(SEEDS, SCALES, STAGES)
def test_sub_networks_are_a_function_of_the_generator(sampler, seed, scales, stages):
    table, again = (sampler(np.random.default_rng(seed), scales, stages) for _ in range(2))
    np.testing.assert_array_equal(table, again)
    assert table.dtype == np.int32
    assert table.shape == (scales, stages)
    assert set(table.flat) <= set(range(scales))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_next_step_draws_other_sub_networks(sampler):
    rng = np.random.default_rng(0)
    assert (sampler(rng, 6, 4) != sampler(rng, 6, 4)).any()


# All tables of two stages: 3! x 3! fair ones, of which each 3! are the same rows in another order;
# 2^(2 x 2) others. Uniform over them means each stage uniform, and independent of the other.
@pytest.mark.parametrize("sampler,scales,tables", [(fair, 3, 6), (independent, 2, 16)])
def test_all_tables_that_there_are_come_equally_often(sampler, scales, tables):
    found = counts(sampler, scales, 2, 100 * tables)
    assert len(found) == tables
    # A fixed seed, so this either holds or does not; chance would pass in 999 of 1000 seeds.
    assert scipy.stats.chisquare(found).pvalue > 1e-3


def test_the_test_of_uniformity_finds_a_stage_that_follows_another():
    def shared(rng, scales, stages):
        return np.repeat(fair(rng, scales, 1), stages, 1)

    assert len(counts(shared, 3, 2, 1000)) == 1  # of 6


def test_independent_sub_networks_often_leave_a_scale_out():
    rng = np.random.default_rng(0)
    complete = [len(set(independent(rng, 3, 1).flat)) == 3 for _ in range(2000)]
    # 3! of 27 tables have each scale once; the standard deviation of the share is .0093, five.
    assert abs(np.mean(complete) - 6 / 27) < 0.047
