"""What a dispatch takes of the draws of its steps, in each form."""

import numpy as np
import pytest
from toy import Toy

from jax_elastic.elastic.family import Draw
from jax_elastic.training.feed import of_dispatch

SHALLOW, DEEP = Toy.subnets


def step(*points, temperature=1.0):
    """The draws of one step."""
    values = {"temperature": np.float32(temperature)}
    return tuple(Draw(point, values=values) for point in points)


STEPS = [step(SHALLOW, DEEP), step(SHALLOW, DEEP, temperature=2.0), step(DEEP, SHALLOW)]


def test_one_program_of_exact_slices_takes_the_steps_whose_points_are_those_of_the_first():
    draws, n, programs = of_dispatch(STEPS, 4, "sliced", Toy())
    assert (n, len(programs)) == (2, 1)
    assert [draw.subnet for draw in draws] == [SHALLOW, DEEP]
    # The rest is padding.
    np.testing.assert_array_equal(draws[0].values["temperature"], [1, 2, 2, 2])


@pytest.mark.parametrize("form", ["scan", "vmap", "scan_switch"])
def test_traced_points_may_be_others_in_every_step_of_a_dispatch(form):
    draws, n, programs = of_dispatch(STEPS, 4, form, Toy())
    assert (n, len(programs)) == (3, 1)
    np.testing.assert_array_equal(draws.where[..., 0], [[0, 1], [0, 1], [1, 0], [1, 0]])
    assert draws.values["temperature"].shape == (4, 2)


def test_points_with_programs_of_their_own_may_be_others_in_every_step_of_a_dispatch():
    steps = [*STEPS, step(DEEP)]
    draws, n, programs = of_dispatch(steps, 8, "host", Toy())
    assert draws == tuple(steps)
    assert n == 4
    # One for each depth.
    assert len(programs) == 2


@pytest.mark.parametrize("form", ["sliced", "scan"])
def test_another_number_of_draws_is_another_program(form):
    _, n, one = of_dispatch([step(SHALLOW), *STEPS], 4, form, Toy())
    _, _, two = of_dispatch(STEPS, 4, form, Toy())
    assert n == 1
    assert not one & two
