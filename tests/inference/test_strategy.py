"""Which operating points are measured: all, a sample, or what evolution asks for."""

import numpy as np
import pytest
from families import SMALL

from jax_elastic.errors import UsageError
from jax_elastic.inference.strategy import Grid, search, worth
from jax_elastic.subnet import Space

SPACE = Space("cut", ((1, 2, 3), (1, 2, 3), (1, 2, 3)))
GRID = Grid(SPACE, (0.3, 0.9))


class Filler:
    """Rows by a formula; remembers what was asked for. Times are known only afterwards."""

    def __init__(self):
        self.asked = []

    def __call__(self, points):
        self.asked += points
        return [self.row(*point) for point in points]

    def row(self, subnet, budget):
        return {
            **before(subnet),
            "subnet": str(subnet),
            "asked": budget,
            "top1": subnet.value[0] / 4 + budget / 5,
            "macs": sum(subnet.value) * budget,
            "ms": subnet.value[0],
        }


def before(subnet):
    """What is known of a point that was not measured: its parameters."""
    return {"params": sum(subnet.value)}


def test_a_grid_is_the_space_times_the_budgets_lowest_first():
    grid = Grid.of(SMALL["urnet"], [0.9, 0.3, 0.9])
    assert grid.every() == [(SMALL["urnet"].subnets.fullest, budget) for budget in (0.3, 0.9)]
    assert Grid.of(SMALL["urnet"]).budgets == tuple(sorted(SMALL["urnet"].budgets))
    assert Grid.of(SMALL["resizable"]).every() == [(s, None) for s in SMALL["resizable"].subnets]


def test_places_of_a_grid_are_its_points_in_their_order():
    coords = [tuple(map(int, place)) for place in np.ndindex(*GRID.dims)]
    assert [GRID.at(place) for place in coords] == GRID.every()
    assert len(GRID) == len(coords) == 54


def test_all_points_are_measured_where_there_are_enough_evaluations():
    fill = Filler()
    told = search(GRID, fill, before, {"params": 4}, 54)
    assert fill.asked == GRID.every() and told == "all 54 operating points"


def test_without_limits_too_many_points_are_sampled_with_both_ends():
    fill, again, other = Filler(), Filler(), Filler()
    told = search(GRID, fill, before, {}, 9)
    search(GRID, again, before, {}, 9)
    search(GRID, other, before, {}, 9, seed=1)
    assert told == "a sample of 9 of 54 operating points"
    assert len(set(fill.asked)) == 9
    assert (fill.asked[0], fill.asked[-1]) == (GRID.every()[0], GRID.every()[-1])
    assert fill.asked == again.asked != other.asked


def test_within_limits_evolution_measures_no_point_that_is_known_to_exceed_them():
    fill = Filler()
    told = search(GRID, fill, before, {"params": 6}, 20)
    assert told == "20 of 54 operating points, by evolution"
    assert len(set(fill.asked)) == len(fill.asked) == 20
    assert max(sum(subnet.value) for subnet, _ in fill.asked) == 6


def test_a_search_that_was_stopped_asks_for_what_it_would_have_asked_for():
    whole, stopped, resumed = Filler(), Filler(), Filler()
    search(GRID, whole, before, {"params": 6}, 40)

    def first_half(points):
        if stopped.asked:
            raise KeyboardInterrupt
        return stopped(points)

    def second_half(points):
        resumed([point for point in points if point not in stopped.asked])
        return [resumed.row(*point) for point in points]

    with pytest.raises(KeyboardInterrupt):
        search(GRID, first_half, before, {"params": 6}, 40)
    search(GRID, second_half, before, {"params": 6}, 40)

    assert stopped.asked and resumed.asked
    assert stopped.asked + resumed.asked == whole.asked


def test_what_is_known_only_afterwards_leads_evolution_towards_the_limit():
    fill = Filler()
    search(GRID, fill, before, {"ms": 1}, 48)
    first, last = fill.asked[:16], fill.asked[16:]
    share = [np.mean([subnet.value[0] == 1 for subnet, _ in part]) for part in (first, last)]
    assert share[1] > share[0]


def test_points_within_the_limits_are_worth_their_accuracy_and_others_less_than_any():
    row = {"top1": 0.7, "ms": 3.0, "macs": 10}
    assert worth(row, {"ms": 3.0}) == 0.7
    assert worth(row, {"ms": 2.0}) == -0.5
    assert worth(row, {"ms": 2.0, "macs": 5}) == -1.0


def test_limits_that_not_even_the_cheapest_point_keeps_are_refused_before_anything_is_measured():
    fill = Filler()
    with pytest.raises(UsageError) as error:
        search(GRID, fill, before, {"params": 2, "ms": 9}, 20)
    assert fill.asked == []
    assert str(error.value) == (
        "no operating point keeps 9 ms and 2 parameters; cut:1,1,1 at budget 0.3 comes nearest, "
        "with 3 parameters; give more by --max_ms or --max_params"
    )
