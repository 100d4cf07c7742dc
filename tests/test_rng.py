"""Random streams: functions of (seed, stream, step) alone, on the host and on the device."""

import chex
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from jax_elastic import rng
from jax_elastic.rng import Stream

SEEDS = st.integers(0, 2**31 - 1)
STEPS = st.integers(0, 2**31 - 1)


def host_numbers(*place):
    return tuple(rng.host(*place).integers(0, 2**63, 2))


def device_numbers(*place):
    return tuple(np.asarray(jax.random.key_data(rng.device(*place))))


# A seed's meaning would change with any of these numbers.
def test_the_numbers_of_the_streams_never_change():
    assert {stream.name: stream.value for stream in Stream} == {
        "INIT": 0,
        "ORDER": 1,
        "AUGMENT": 2,
        "DRAWS": 3,
        "LOSS": 4,
        "SPLIT": 5,
        "PREDICT": 6,
        "POINTS": 7,
        "SEARCH": 8,
        "TARGETS": 9,
    }


def test_the_host_draws_what_it_has_always_drawn():
    raw = rng.host(7, Stream.DRAWS, 3).bit_generator.random_raw(2)
    # NumPy promises these bits of SeedSequence and Philox for all versions.
    np.testing.assert_array_equal(
        raw, np.array([16551974804150116317, 6975990519979642232], np.uint64)
    )


def test_the_device_draws_what_it_has_always_drawn():
    assert device_numbers(7, Stream.LOSS, 3) == (1920670888, 3366089766)


@pytest.mark.parametrize("numbers", [host_numbers, device_numbers])
@hypothesis.given(seed=SEEDS, step=STEPS)
def test_every_stream_of_a_seed_and_step_draws_other_numbers(numbers, seed, step):
    assert len({numbers(seed, stream, step) for stream in Stream}) == len(Stream)


@pytest.mark.parametrize("numbers", [host_numbers, device_numbers])
@hypothesis.given(seed=SEEDS, step=STEPS, other=STEPS)
def test_two_places_draw_the_same_numbers_exactly_if_they_are_the_same_place(
    numbers, seed, step, other
):
    same = numbers(seed, Stream.LOSS, step) == numbers(seed, Stream.LOSS, other)
    assert same == (step == other)
    assert numbers(seed, Stream.LOSS, step) != numbers(seed + 1, Stream.LOSS, step)


def test_a_place_on_the_host_may_have_several_indices():
    places = {host_numbers(0, Stream.ORDER, phase, epoch) for phase in (0, 1) for epoch in (0, 1)}
    assert len(places) == 4


def test_a_generator_starts_anew_each_time_so_no_state_is_kept():
    first = rng.host(3, Stream.ORDER, 5).permutation(10)
    rng.host(3, Stream.ORDER, 5).permutation(1000)
    np.testing.assert_array_equal(rng.host(3, Stream.ORDER, 5).permutation(10), first)


def test_a_traced_step_gives_the_key_of_the_same_number():
    traced = jax.jit(lambda step: rng.device(3, Stream.AUGMENT, step))(jnp.int32(11))
    assert traced == rng.device(3, Stream.AUGMENT, 11)


def test_a_step_is_counted_from_zero_where_none_is_given():
    assert rng.device(3, Stream.INIT) == rng.device(3, Stream.INIT, 0)


def test_keys_and_float32_draws_are_the_same_under_x64():
    def draw():
        key = rng.device(3, Stream.LOSS, jnp.int32(2**31 - 1))
        return jax.random.key_data(key), jax.random.uniform(key, (64,), jnp.float32)

    narrow = draw()
    with jax.enable_x64(True):
        wide = draw()
    chex.assert_trees_all_equal(narrow, wide)


@pytest.mark.parametrize("x64", [False, True])
def test_the_key_of_an_image_is_a_function_of_its_place_and_the_draw_alone(x64):
    places = np.array([0, 5, 1797], np.int32)
    with jax.enable_x64(x64):
        keys = rng.image_keys(places, 3)
        apart = [rng.image_keys(places[i : i + 1], 3)[0] for i in range(3)]
        expected = jax.random.fold_in(rng.device(0, Stream.PREDICT, 3), 5)
        others = rng.image_keys(places)
    numbers = jax.random.key_data(keys)
    np.testing.assert_array_equal(numbers, [jax.random.key_data(key) for key in apart])
    np.testing.assert_array_equal(numbers[1], jax.random.key_data(expected))
    both = np.concatenate([numbers, jax.random.key_data(others)])
    assert len(np.unique(both, axis=0)) == 6
