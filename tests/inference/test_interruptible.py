"""The runner that can be interrupted: its answers, and when it stops."""

import dataclasses
import threading

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm

from jax_elastic.backbones.isresnext import ISResNeXt as Architecture
from jax_elastic.data.augment import normalise
from jax_elastic.data.datasets import load
from jax_elastic.elastic.anytime.isresnext import ISResNeXt
from jax_elastic.elastic.anytime.one_pass import ALL_EXITS
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.inference import interruptible
from jax_elastic.inference.interruptible import Interruptible
from jax_elastic.inference.pretrained import pretrained
from jax_elastic.subnet import Subnet

THREE = ISResNeXt(Architecture((1, 2), 6, 3, 2, 3, classes=(5, 2)))
NESTED = ("isresnext", "exits", "shallow")
IMAGES = jnp.asarray(warm.random_images(4))


class Clock:
    """It stands still unless somebody moves it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def answers(runner, *args, **kwargs):
    return list(runner(IMAGES, *args, **kwargs))


@pytest.mark.parametrize("name", ["isresnext", "three", "exits", "shallow"])
def test_every_answer_is_that_of_its_operating_point_alone(name):
    small = THREE if name == "three" else families.ALL[name]
    with jax.enable_x64(True):
        network = dataclasses.replace(small, dtype="float64")
        with jax.enable_x64(False):
            variables = warm.warmed(small)
        variables, images = warm.cast(variables, "float64"), IMAGES.astype("float64")
        found = list(Interruptible(network, variables)(images))
        assert [subnet for subnet, _ in found] == list(network.subnets)
        predict = jax.jit(network.predict, static_argnums=2)
        for subnet, prediction in found:
            (expected,) = predict(variables, images, (subnet,), None)
            for level, theirs in zip(prediction.logits, expected.logits, strict=True):
                # Law 1: 1e-10 in float64; logits are of size 1.
                np.testing.assert_allclose(level, theirs, rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["isresnext_digits", "msdnet_digits"])
@pytest.mark.parametrize("dtype,tolerance", [("float64", 1e-10), ("float32", 1e-5)])
def test_with_trained_weights_too_each_answer_is_that_of_its_point_alone(name, dtype, tolerance):
    trained, variables, experiment = pretrained(name)
    images = normalise(load(experiment.data, "test").images[:16], experiment.data)
    with jax.enable_x64(dtype == "float64"):
        network = dataclasses.replace(trained, dtype=dtype)
        variables, images = warm.cast(variables, dtype), jnp.asarray(images, dtype)
        predict = jax.jit(network.predict, static_argnums=2)
        expected = predict(variables, images, tuple(network.subnets), None)
        found = [prediction for _, prediction in Interruptible(network, variables)(images)]
        for ours, theirs in zip(found, expected, strict=True):
            # Law 1, of the largest logit.
            atol = tolerance * np.abs(theirs.logits[0]).max()
            np.testing.assert_allclose(ours.logits[0], theirs.logits[0], rtol=0, atol=atol)


@pytest.fixture(scope="module")
def variables():
    return warm.warmed(families.SMALL["isresnext"])


@pytest.fixture
def timed(variables, monkeypatch):
    """A runner whose increments take 1 second and 3, or in each second pass 2 and 5."""
    clock = Clock()
    runner = Interruptible(families.SMALL["isresnext"], variables, clock)
    wait = jax.block_until_ready
    done = []

    def blocked(found):
        clock.now += (1.0, 3.0, 2.0, 5.0)[len(done) % 4]
        done.append(1)
        return wait(found)

    monkeypatch.setattr(interruptible.jax, "block_until_ready", blocked)
    monkeypatch.setattr(interruptible, "ROUNDS", 3)
    runner.times(IMAGES)  # after a pass that compiles: slow, quick and slow
    return runner, clock, done


@pytest.mark.parametrize("deadline,count", [(2.0, 1), (5.9, 1), (6.0, 2), (None, 2)])
def test_an_increment_begins_only_if_even_a_slow_one_ends_in_time(timed, deadline, count):
    runner, clock, _ = timed
    start = clock.now
    assert len(answers(runner, deadline)) == count
    assert deadline is None or clock.now - start <= deadline


def test_the_time_in_which_an_answer_is_looked_at_counts(timed):
    runner, clock, _ = timed
    found = runner(IMAGES, 8.0)
    next(found)
    clock.now += 3.0
    assert list(found) == []


def test_the_time_before_the_first_answer_is_asked_for_counts(timed):
    runner, clock, _ = timed
    found = runner(IMAGES, 8.0)
    clock.now += 7.0
    assert list(found) == []


def test_a_deadline_before_the_first_answer_is_refused_with_what_it_takes(timed):
    runner, _, _ = timed
    with pytest.raises(UsageError, match=r"500 ms is too short; .* width:1, took up to 2000\.0 ms"):
        answers(runner, 0.5)


def test_a_deadline_may_be_any_number(timed):
    runner, _, _ = timed
    (first, _), *_ = runner(IMAGES, np.float32(8.0))
    assert first == Subnet("width", (1,))


def test_a_signal_that_cannot_be_asked_is_refused(timed):
    with pytest.raises(UsageError, match=r"cancelled .* cannot be called; .*is_set"):
        timed[0](IMAGES, cancelled=threading.Event())


def test_a_runner_is_not_traced_and_measures_nothing_then(timed):
    runner, _, done = timed
    before = len(done)
    with pytest.raises(UsageError, match="cannot be traced"):
        jax.eval_shape(lambda images: list(runner(images, 8.0)), IMAGES[:2])
    assert len(done) == before


@pytest.mark.parametrize("deadline", [float("nan"), 0, -1.0, float("inf"), "1", True])
def test_a_deadline_that_is_no_time_is_refused(timed, deadline):
    with pytest.raises(UsageError, match=r"deadline .* is no time; seconds above 0, or None"):
        answers(timed[0], deadline)


def test_the_calibration_of_a_shape_happens_once_and_tells_each_increment_by_itself(timed):
    runner, _, done = timed
    times = runner.times(IMAGES)
    np.testing.assert_allclose(times.seconds, [[2, 5], [1, 3], [2, 5]])
    np.testing.assert_allclose(times.usual, [2, 5])
    assert len(done) == 8  # compiling and three rounds
    runner.times(IMAGES[:2])
    assert len(done) == 16
    runner.times(IMAGES, again=True)
    assert len(done) == 24


def test_it_stops_when_it_is_told_to_and_keeps_what_it_has(variables):
    runner = Interruptible(families.SMALL["isresnext"], variables)
    told = []
    found = []
    for subnet, prediction in runner(IMAGES, cancelled=lambda: bool(told)):
        found.append((subnet, prediction))
        told.append(True)
    assert [subnet for subnet, _ in found] == [Subnet("width", (1,))]
    assert answers(runner, cancelled=lambda: True) == []


def test_what_was_seen_before_is_handed_on_without_a_copy():
    runner = Interruptible(THREE, warm.warmed(THREE))
    first, second, last = runner._increments
    carry, _ = first({"image": IMAGES})
    after, _ = second(carry)
    assert after["image"] is IMAGES
    assert after["seen"][0][0] is carry["seen"][0][0]
    assert last(after)[0] == {}  # which nobody would read


@pytest.mark.parametrize("name", NESTED)
def test_what_all_answers_cost_is_the_last_one_and_the_other_classifiers(name):
    network = families.ALL[name]
    costs = CostModel(network, (8, 8, 3))
    full = costs.cost(network.subnets.fullest).full
    others = costs.cost(ALL_EXITS).full - full
    assert 0 < others < 0.1 * full  # at the paper's widths below 0.01, see the benchmark


def test_widths_that_share_nothing_cannot_be_run_one_after_the_other():
    network = families.SMALL["iresnext"]
    with pytest.raises(UsageError, match="do not nest: width:2 begins anew"):
        Interruptible(network, warm.warmed(network))


@pytest.mark.parametrize("images", [IMAGES[:0], IMAGES[0], (IMAGES > 0).astype(jnp.uint8)])
def test_what_are_no_images_is_refused_before_anything_runs(variables, images):
    runner = Interruptible(families.SMALL["isresnext"], variables)
    with pytest.raises(UsageError, match="images"):
        runner(images)


@pytest.mark.parametrize("name", ["urnet", "random_drop", "toy"])
def test_gates_that_choose_what_is_computed_are_no_increments(name):
    network = families.ALL[name]
    with pytest.raises(UsageError, match="build_engine"):
        Interruptible(network, warm.warmed(network))


def test_an_image_that_is_not_finite_gets_no_answer_and_the_others_theirs(variables):
    runner = Interruptible(families.SMALL["isresnext"], variables)
    spoilt = IMAGES.at[1, 0, 0, 0].set(jnp.nan)
    for (_, found), (_, clean) in zip(runner(spoilt), runner(IMAGES), strict=True):
        assert np.isnan(found.logits[0][1]).all()
        others = np.array([0, 2, 3])
        np.testing.assert_array_equal(found.logits[0][others], clean.logits[0][others])


def test_images_of_other_channels_are_refused_with_the_first_answer(variables):
    runner = Interruptible(families.SMALL["isresnext"], variables)
    with pytest.raises(UsageError, match="channels of images is 1; 3 for this network"):
        next(runner(IMAGES[..., :1]))
