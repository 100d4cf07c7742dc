import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import t

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.intervals import (
    Interval,
    mean_interval,
    mean_over_seeds,
    paired_difference,
)

# Whole numbers over 8: sums of them are exact, so that equalities need no tolerance.
EIGHTHS = st.integers(0, 8).map(lambda count: count / 8)
SHAPES = st.tuples(st.integers(2, 5), st.integers(2, 30))
ARMS = SHAPES.flatmap(lambda shape: arrays(np.float64, shape, elements=EIGHTHS))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(*[arrays(np.float64, shape, elements=EIGHTHS)] * 2))
ROUNDING = 1e-12  # of sums of at most 150 values below 1

# Deviations that (seeds, images, single values) add to a mean. What decides it is in the name.
DESIGNS = {
    "seeds": (1.0, 0.0, 1.0),
    "seeds and images": (0.12, 0.5, 1.0),
    "images": (0.0, 1.0, 0.3),
    "single values": (0.0, 0.0, 1.0),
}


def simulated(design, seeds, images, generator):
    of_seeds, of_images, of_values = DESIGNS[design]
    return (
        generator.normal(0, of_seeds, (seeds, 1))
        + generator.normal(0, of_images, (1, images))
        + generator.normal(0, of_values, (seeds, images))
    )


def standard_error(design, seeds, images):
    of_seeds, of_images, of_values = DESIGNS[design]
    return (of_seeds**2 / seeds + of_images**2 / images + of_values**2 / seeds / images) ** 0.5


def hits(seed=0, seeds=3, images=200, share=0.9):
    return np.random.default_rng(seed).random((seeds, images)) < share


def as_array(interval):
    return np.array(dataclasses.astuple(interval))


@given(ARMS)
def test_identical_arms_differ_by_exactly_nothing(arm):
    assert paired_difference(arm, arm) == Interval(0, 0, 0, 0)


def test_an_interval_over_seeds_alone_is_as_wide_as_that_of_t():
    values = np.random.default_rng(0).normal(0.4, 1.0, 20)
    found = mean_over_seeds(values)
    low, high = t.interval(0.95, 19, values.mean(), values.std(ddof=1) / 20**0.5)
    assert found.mean == values.mean()
    # The ends are quantiles of 2000 resampled means, which scatter by some percent of the width.
    assert [found.low, found.high] == pytest.approx([low, high], abs=0.05 * (high - low))


def test_equal_values_of_all_seeds_leave_no_interval():
    assert mean_over_seeds(np.zeros(4)) == Interval(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5], r"values of shape \(1,\) are no interval; \(seeds,\), at least 2"),
        ([[0.5, 0.4]], r"values of shape \(1, 2\) are no interval"),
        ([0.5, np.nan], "1 of 2 values are not finite"),
    ],
    ids=["one seed", "images", "not finite"],
)
def test_values_that_are_no_seeds_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        mean_over_seeds(values)


@given(PAIRS)
def test_swapped_arms_differ_by_the_opposite(arms):
    ours, theirs = arms
    there, back = paired_difference(ours, theirs), paired_difference(theirs, ours)
    expected = [-back.mean, -back.high, -back.low, back.detectable]
    np.testing.assert_allclose(as_array(there), expected, atol=ROUNDING)


@given(arm=ARMS, shift=st.integers(-8, 8))
def test_a_shift_moves_the_interval_and_leaves_its_width(arm, shift):
    moved, interval = as_array(mean_interval(arm + shift)), as_array(mean_interval(arm))
    np.testing.assert_allclose(moved - interval, [shift, shift, shift, 0], atol=1e-11)


@given(arm=ARMS, factor=st.sampled_from([0.5, 3.0, 1e6]))
def test_a_unit_scales_the_interval(arm, factor):
    scaled, interval = as_array(mean_interval(factor * arm)), as_array(mean_interval(arm))
    np.testing.assert_allclose(scaled, factor * interval, atol=factor * ROUNDING)


@given(PAIRS)
def test_the_difference_is_that_of_the_means_and_lies_in_its_interval(arms):
    ours, theirs = arms
    interval = paired_difference(ours, theirs)
    assert interval.mean == pytest.approx(ours.mean() - theirs.mean(), abs=ROUNDING)
    assert interval.low <= interval.mean + ROUNDING
    assert interval.mean <= interval.high + ROUNDING


@given(arm=ARMS, seed=st.integers(0, 99))
def test_a_seed_gives_the_same_interval_again(arm, seed):
    assert mean_interval(arm, seed=seed) == mean_interval(arm, seed=seed)


@pytest.mark.parametrize("axis", [0, 1])
def test_the_order_of_seeds_and_images_moves_no_more_than_the_resampling_does(axis):
    arm = hits()
    shuffled = np.flip(arm, axis)
    found, expected = as_array(mean_interval(shuffled)), as_array(mean_interval(arm))
    # 2,000 resamples know a quantile, or 2.8 standard errors, to a tenth of the width.
    width = expected[2] - expected[1]
    np.testing.assert_allclose(found, expected, atol=0.1 * width)
    assert found[0] == pytest.approx(expected[0], abs=ROUNDING)


def test_what_both_arms_share_does_not_widen_the_interval_of_their_difference():
    hard_images = np.random.default_rng(0).random(200) < 0.3
    ours, theirs = (hits(seed, share=0.99) & ~hard_images for seed in (1, 2))
    assert mean_interval(ours).detectable > 3 * paired_difference(ours, theirs).detectable


def test_arms_that_differ_by_the_same_everywhere_have_an_interval_of_no_width():
    arm = hits() * 0.5
    assert paired_difference(arm + 0.25, arm) == Interval(0.25, 0.25, 0.25, 0)


def test_a_few_values_that_cancel_in_every_mean_still_make_a_width():
    difference = np.zeros((2, 50))
    difference[:, 7], difference[:, 9] = (1, -1), (-1, 1)
    interval = mean_interval(difference)
    assert interval.low < 0 < interval.high
    assert interval.detectable > 0


@pytest.mark.parametrize("design", DESIGNS)
def test_three_seeds_hold_the_truth_in_nine_of_ten_experiments(design):
    generator = np.random.default_rng(0)
    experiments = 400
    held = 0
    for experiment in range(experiments):
        values = simulated(design, 3, 60, generator)
        interval = mean_interval(values, resamples=300, seed=experiment)
        held += interval.low <= 0 <= interval.high
    # 91 to 97 %, of which 400 experiments show a standard error of 1.4 points.
    assert 0.88 <= held / experiments <= 0.99


@pytest.mark.parametrize("design", ["seeds and images", "images", "single values"])
def test_what_is_detectable_is_told_by_the_true_standard_error(design):
    generator = np.random.default_rng(0)
    found = [
        mean_interval(simulated(design, 3, 100, generator), resamples=300).detectable
        for _ in range(200)
    ]
    # The median, as single estimates scatter; that of single values is a tenth too large.
    expected = (1.96 + 0.84) * standard_error(design, 3, 100)
    assert np.median(found) == pytest.approx(expected, rel=0.15)


def test_a_difference_that_is_detectable_is_found_in_four_of_five_experiments():
    generator = np.random.default_rng(0)
    shift = (1.96 + 0.84) * standard_error("images", 3, 100)
    found = sum(
        mean_interval(simulated("images", 3, 100, generator) + shift, 300, seed).low > 0
        for seed in range(200)
    )
    # A standard error of 200 experiments is 2.8 points.
    assert found / 200 == pytest.approx(0.8, abs=0.08)


def test_seeds_that_decide_all_make_the_interval_of_three_seeds_alone():
    # With nothing else the values are three, and theirs is 4.30 standard errors to either side.
    values = np.repeat([[-1.0], [0.0], [1.0]], 50, axis=1)
    interval = mean_interval(values)
    student = 4.303 * 1 / 3**0.5
    # A bootstrap of three values takes steps, of which the outermost is drawn 1 time in 27.
    assert 0.9 * student <= interval.high <= 1.2 * student


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (np.zeros((3, 4)), np.zeros((3, 5)), r"shapes \(3, 4\) and \(3, 5\) cannot be paired"),
        (np.zeros((3, 4)), np.zeros(4), "cannot be paired; the same seeds and the same images"),
        (np.zeros(4), np.zeros(4), r"shape \(4,\) are no \(seeds, images\)"),
        (np.zeros((1, 4)), np.zeros((1, 4)), "over 1 seeds and 4 images; at least 2 of each"),
        (np.zeros((3, 1)), np.zeros((3, 1)), "over 3 seeds and 1 images"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), "6 of 6 values are not finite"),
    ],
)
def test_arms_without_an_interval_are_refused(ours, theirs, message):
    with pytest.raises(UsageError, match=message):
        paired_difference(ours, theirs)
