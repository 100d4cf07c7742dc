"""Operating points print, parse and compare; spaces agree on what their points are."""

import itertools
import re

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from jax_elastic.errors import UsageError
from jax_elastic.subnet import FULL, Space, Subnet

AXES = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)
NUMBERS = st.one_of(st.integers(-(10**6), 10**6), st.floats(allow_nan=False, allow_infinity=False))
SUBNETS = st.builds(Subnet, AXES, st.lists(NUMBERS, max_size=5).map(tuple))
CHOICES = st.lists(st.integers(0, 40).map(lambda n: n / 4), min_size=1, max_size=4, unique=True)
SPACES = st.builds(Space, AXES, st.lists(CHOICES.map(tuple), max_size=3).map(tuple))

TWO_STAGES = Space("resolution", ((0.5, 0.7, 1), (0.5, 1)))
SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1)


@hypothesis.given(SUBNETS)
def test_parsing_what_was_printed_gives_the_same_point(subnet):
    assert Subnet.parse(str(subnet)) == subnet
    assert hash(Subnet.parse(str(subnet))) == hash(subnet)


@pytest.mark.parametrize(
    "text,subnet",
    [
        ("full", FULL),
        (" full\n", FULL),
        ("width:3", Subnet("width", (3,))),
        ("resolution:1,.7,1", Subnet("resolution", (1, 0.7, 1))),
        ("resolution:1.0, 0.70", Subnet("resolution", (1, 0.7))),
        ("capacity:5e-1", Subnet("capacity", (0.5,))),
        ("train_only:-2", Subnet("train_only", (-2,))),
    ],
)
def test_every_usual_spelling_of_a_point_is_read(text, subnet):
    assert Subnet.parse(text) == subnet


@pytest.mark.parametrize(
    "subnet,text",
    [
        (FULL, "full"),
        (Subnet("width", (3.0,)), "width:3"),
        (Subnet("resolution", (1, 0.7)), "resolution:1,0.7"),
        (Subnet("resolution", (np.float64(0.1), np.int64(2))), "resolution:0.1,2"),
    ],
)
def test_a_point_prints_its_numbers_as_short_as_they_are(subnet, text):
    assert str(subnet) == text


def test_one_and_one_point_zero_are_the_same_value():
    whole, point = Subnet("width", (1,)), Subnet("width", (1.0,))
    assert whole == point
    assert hash(whole) == hash(point)
    assert str(whole) == str(point)


def test_points_of_other_axes_or_values_differ():
    points = [FULL, Subnet("width"), Subnet("width", (1,)), Subnet("width", (1, 1))]
    assert len(set(points)) == 4


def test_a_point_cannot_be_changed():
    with pytest.raises(AttributeError):
        FULL.axis = "width"


@pytest.mark.parametrize(
    "text",
    ["", ":1", "Full", "width:", "width:1,,2", "width:a", "width:1;2", "1:2", "a b", "a:1:2"],
)
def test_text_of_another_form_is_a_usage_error_with_an_example(text):
    with pytest.raises(UsageError, match="for example full"):
        Subnet.parse(text)


@pytest.mark.parametrize("text", [".5,.5,.5", "3", " 1, 0.75 "])
def test_numbers_without_an_axis_are_told_where_it_belongs(text):
    told = f"numbers without their axis; .*AXIS:{re.escape(text.strip())}; jax-elastic macs"
    with pytest.raises(UsageError, match=told):
        Subnet.parse(text)


@pytest.mark.parametrize("text", ["width:nan", "width:inf", "width:1,-inf", "width:1e999"])
def test_a_number_that_is_not_finite_is_a_usage_error(text):
    with pytest.raises(UsageError, match="is not a finite number"):
        Subnet.parse(text)


def test_a_number_too_large_for_a_float_is_still_a_number():
    assert Subnet.parse("width:1" + 400 * "0") == Subnet("width", (10**400,))


@pytest.mark.parametrize("value", [True, np.True_, "2", None, (2,), 1j], ids=repr)
def test_what_is_no_number_is_refused_by_its_value(value):
    told = f"{re.escape(repr(value))} in subnet 'width' is not a finite number"
    with pytest.raises(UsageError, match=told):
        Subnet("width", (1, value))


@pytest.mark.parametrize("value", [2, None, "2"], ids=repr)
def test_numbers_that_do_not_stand_in_a_tuple_are_refused_with_one_that_does(value):
    with pytest.raises(UsageError, match=rf"{value!r} of subnet 'width' are not .* \(2,\)"):
        Subnet("width", value)


@pytest.mark.parametrize("axis", [3, None, ("width",)], ids=repr)
def test_an_axis_that_is_no_text_is_refused(axis):
    with pytest.raises(UsageError, match="is not the name of an axis"):
        Subnet(axis, (1,))


@hypothesis.given(SPACES)
def test_length_order_positions_and_membership_of_a_space_agree(space):
    points = list(space)
    assert len(points) == len(set(points)) == len(space) == np.prod(space.dims, dtype=int)
    assert [space.index(space.coords(point)) for point in points] == list(range(len(points)))
    assert [space.at(space.coords(point)) for point in points] == points
    assert all(point in space for point in points)


@hypothesis.given(SPACES)
def test_positions_are_coordinates_in_the_product_of_the_dimensions(space):
    every = itertools.product(*(range(size) for size in space.dims))
    assert [space.at(coords) for coords in every] == list(space)


@hypothesis.given(SPACES)
def test_a_space_starts_at_its_cheapest_point_and_ends_at_its_fullest(space):
    points = list(space)
    assert (space.cheapest, space.fullest) == (points[0], points[-1])


@hypothesis.given(SPACES, SUBNETS)
def test_a_point_is_in_a_space_exactly_if_the_space_lists_it(space, subnet):
    assert (subnet in space) == (subnet in list(space))


@hypothesis.given(SPACES, st.integers(0, 2**32))
def test_a_sample_lies_inside_and_is_a_function_of_the_generator(space, seed):
    subnet = space.sample(np.random.default_rng(seed))
    assert subnet in space
    assert subnet == space.sample(np.random.default_rng(seed))


def test_samples_are_uniform_over_the_points():
    rng = np.random.default_rng(0)
    indices = [TWO_STAGES.index(TWO_STAGES.coords(TWO_STAGES.sample(rng))) for _ in range(3000)]
    # Six points, 500 of each expected; the standard deviation is 20, five of them.
    assert np.abs(np.bincount(indices, minlength=6) - 500).max() < 100


@hypothesis.given(SPACES, st.integers(0, 2**32), st.data())
def test_several_points_differ_and_are_a_function_of_the_generator(space, seed, data):
    n = data.draw(st.integers(1, len(space)))
    points = space.several(n, np.random.default_rng(seed))
    assert len(set(points)) == len(points) == n
    assert [point for point in space if point in points] == list(points)
    assert points == space.several(n, np.random.default_rng(seed))


def test_each_point_is_equally_often_among_several():
    rng = np.random.default_rng(0)
    drawn = [TWO_STAGES.coords(p) for _ in range(1500) for p in TWO_STAGES.several(2, rng)]
    # As above: 3000 of six points.
    assert np.abs(np.bincount([TWO_STAGES.index(c) for c in drawn], minlength=6) - 500).max() < 100


@pytest.mark.parametrize("n", [0, 7])
def test_more_points_than_there_are_cannot_be_sampled(n):
    with pytest.raises(UsageError, match=f"{n} of 6 operating points cannot be sampled; 1 to 6"):
        TWO_STAGES.several(n, np.random.default_rng(0))


def test_coordinates_are_int32_so_that_a_step_can_carry_them():
    coords = TWO_STAGES.coords(Subnet("resolution", (1.0, 0.5)))
    assert coords.dtype == np.int32
    np.testing.assert_array_equal(coords, [2, 0])


@pytest.mark.parametrize("space", [TWO_STAGES, Space("width", ((1, 2, 3, 4),))], ids=str)
def test_traced_coordinates_have_the_index_of_iteration_order(space):
    coords = np.stack([space.coords(point) for point in space])
    indices = jax.jit(jax.vmap(space.index))(coords)
    np.testing.assert_array_equal(indices, np.arange(len(space)))


def test_the_empty_product_has_the_one_point_full():
    space = Space()
    assert list(space) == [FULL] == [space.cheapest]
    assert (len(space), space.dims, space.fullest) == (1, (), FULL)
    assert space.coords(FULL).shape == (0,)
    assert space.index(space.coords(FULL)) == 0


@pytest.mark.parametrize(
    "subnet",
    [FULL, Subnet("width", (1, 1)), Subnet("resolution", (1,)), Subnet("resolution", (0.6, 1))],
    ids=str,
)
def test_a_point_outside_is_refused_with_the_allowed_values(subnet):
    with pytest.raises(UsageError) as error:
        TWO_STAGES.check(subnet)
    assert str(error.value) == (
        f"operating point {subnet} does not fit this network; "
        "it takes resolution:v,v with v from {0.5, 0.7, 1} x {0.5, 1}"
    )


@pytest.mark.parametrize(
    "text", ["resolution:1,0.85,0.8,0.9,0.8", "resolution:1,0.9,0.8,0.9"], ids=["scale", "stages"]
)
def test_choices_that_are_the_same_everywhere_are_told_once(text):
    with pytest.raises(UsageError) as error:
        Space("resolution", (SCALES,) * 5).check(Subnet.parse(text))
    assert str(error.value) == (
        f"operating point {text} does not fit this network; "
        "it takes resolution:v,v,v,v,v with each v from {0.5, 0.6, 0.7, 0.8, 0.9, 1}"
    )


def test_a_scale_per_stage_is_read_found_and_printed():
    space, point = Space("resolution", (SCALES,) * 5), Subnet.parse("resolution:1,.9,.8,.9,.8")
    space.check(point)
    np.testing.assert_array_equal(space.coords(point), [5, 4, 3, 4, 3])
    assert space.at(space.coords(point)) == point
    assert str(point) == "resolution:1,0.9,0.8,0.9,0.8"
    assert str(space.cheapest) == "resolution:0.5,0.5,0.5,0.5,0.5"
    assert str(space.fullest) == "resolution:1,1,1,1,1"


def test_a_space_too_large_to_list_still_answers():
    space = Space("resolution", (SCALES,) * 20)  # 6^20 points
    point = space.sample(np.random.default_rng(0))
    assert point in space
    assert len(space) == 6**20
    assert next(iter(space)) == space.cheapest
    assert len(space.several(5, np.random.default_rng(0))) == 5
    assert space.shown() == (space.cheapest, space.fullest)


def test_a_network_without_choices_says_that_it_takes_full():
    with pytest.raises(UsageError, match=r"operating point width:3 .* it takes full$"):
        Space().check(Subnet("width", (3,)))


def test_coordinates_of_a_point_outside_are_refused():
    with pytest.raises(UsageError, match="does not fit"):
        TWO_STAGES.coords(FULL)


def test_by_cost_sorts_and_keeps_iteration_order_among_equals():
    points = list(TWO_STAGES)
    ordered = TWO_STAGES.by_cost(lambda subnet: subnet.value[1])
    assert ordered == [points[0], points[2], points[4], points[1], points[3], points[5]]


@pytest.mark.parametrize(("choices", "shown"), [(8, 64), (9, 2)])
def test_of_more_points_than_anyone_reads_a_report_shows_the_two_ends(choices, shown):
    space = Space("resolution", (tuple(range(choices)),) * 2)
    found = space.shown()
    assert len(found) == shown
    assert (found[0], found[-1]) == (space.cheapest, space.fullest)
