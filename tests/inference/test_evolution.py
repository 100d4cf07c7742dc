"""Evolutionary search over made-up scores: its rules, and that it is worth more than chance."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_elastic import rng
from jax_elastic.inference.evolution import Evolution, evolve, random_search

DIMS = (3, 4, 2, 3, 3)
WORTH = np.array([3.0, 1.0, 4.0, 1.5, 0.5])
SEARCHES = [evolve, random_search]


def generator(seed=0):
    return rng.host(seed, rng.Stream.SEARCH)


def worth(points):
    """Higher coordinates are better, some more than others."""
    return [float(WORTH @ np.array(point)) for point in points]


def everything(point):
    return True


def up_to(most):
    """A limit on the sum of the coordinates."""
    return lambda point: sum(point) <= most


@pytest.mark.parametrize("search", SEARCHES)
@given(
    dims=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    most=st.integers(0, 6),
    evaluations=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_as_many_points_as_there_are_evaluations_and_points_within_the_limit_are_scored_once(
    search, dims, most, evaluations, seed
):
    asked = []

    def score(points):
        asked.extend(points)
        return worth_of(points)

    def worth_of(points):
        return [float(sum(point)) for point in points]

    found = search(dims, score, up_to(most), evaluations, generator(seed))

    fitting = [p for p in itertools.product(*map(range, dims)) if sum(p) <= most]
    assert len(asked) == len(set(asked)) == min(evaluations, len(fitting))
    assert set(asked) <= set(fitting)
    assert found == dict(zip(asked, worth_of(asked), strict=True))


@pytest.mark.parametrize("search", SEARCHES)
def test_the_same_seed_gives_the_same_search_and_another_seed_another(search):
    first, again, other = (search(DIMS, worth, up_to(6), 30, generator(s)) for s in (1, 1, 2))
    assert list(first.items()) == list(again.items())
    assert set(first) != set(other)


def test_evolution_asks_for_a_generation_at_a_time():
    sizes = []

    def score(points):
        sizes.append(len(points))
        return worth(points)

    evolve(DIMS, score, everything, 20, generator(), Evolution(population=8))

    assert sizes == [8, 8, 4]


def test_evolution_finds_a_better_point_than_chance_in_most_searches():
    pairs = [
        [max(search((6,) * 6, ridge, up_to(18), 64, generator(s)).values()) for search in SEARCHES]
        for s in range(20)
    ]
    evolved, drawn = np.array(pairs).T
    assert np.median(evolved) > np.median(drawn)
    assert np.mean(evolved >= drawn) > 0.8


def ridge(points):
    """The best is in one corner of a plane, with a slope from everywhere."""
    return [-float(np.abs(np.array(p) - [5, 0, 5, 0, 5, 3]).sum()) for p in points]


@pytest.mark.parametrize("search", SEARCHES)
def test_the_only_point_of_a_vast_space_that_fits_is_found(search):
    found = search((6,) * 11, worth_of_sum, up_to(0), 9, generator())
    assert found == {(0,) * 11: 0.0}


def worth_of_sum(points):
    return [float(sum(point)) for point in points]


@pytest.mark.parametrize("search", SEARCHES)
def test_a_limit_that_not_even_the_cheapest_keeps_and_no_evaluation_are_refused(search):
    with pytest.raises(ValueError, match="the cheapest point does not fit"):
        search(DIMS, worth, lambda point: False, 9, generator())
    with pytest.raises(ValueError, match="0 evaluations find nothing"):
        search(DIMS, worth, everything, 0, generator())


@pytest.mark.parametrize(
    "wrong",
    [
        {"population": 0},
        {"parents": 0},
        {"crossed": 1.5},
        {"mutated": -1.0},
        {"mutated": math.nan},
        {"mutated": math.inf},
    ],
    ids=str,
)
def test_a_way_to_make_children_is_checked(wrong):
    with pytest.raises(ValueError, match="is not a way to make children"):
        Evolution(**wrong)
