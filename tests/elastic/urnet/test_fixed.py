"""URNet(Fixed): how its budget comes down, and what it draws around it."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from programs import when
from warm import BACKBONE

from jax_elastic.elastic.urnet.fixed import URNetFixed
from jax_elastic.errors import UsageError
from jax_elastic.subnet import FULL

TARGETS = st.sampled_from([0.5, 0.6, 0.7])


def drawn(network, objective, epoch=0.0, n=2000):
    """Budgets of many steps at one place in training."""
    rng = np.random.default_rng(0)
    place = when(objective, epoch)
    return np.array([network.draws(rng, place)[0].values["budget"] for _ in range(n)])


@pytest.mark.parametrize(
    "epoch,share",
    # Half a cosine: its ends, its middle, and a third of the way, where the cosine is 1 / 2.
    [(0, 1), (5 / 3, 0.75), (2.5, 0.5), (5, 0), (400, 0)],
)
@pytest.mark.parametrize("target", [0.5, 0.6, 0.7])
def test_the_budget_comes_down_from_one_to_the_target_along_half_a_cosine(target, epoch, share):
    found = URNetFixed(target=target).annealed(epoch)
    # Float64 rounding of a cosine.
    assert found == pytest.approx(target + share * (1 - target), abs=1e-12)


@hypothesis.given(TARGETS, st.floats(0, 20), st.tuples(st.floats(0, 30), st.floats(0, 30)))
def test_the_budget_never_rises_and_stays_between_the_target_and_one(target, duration, epochs):
    network = URNetFixed(target=target, anneal_epochs=duration)
    early, late = (network.annealed(epoch) for epoch in sorted(epochs))
    # Rounding of the sum may take one bit from it.
    assert target <= late <= early + 1e-15 <= 1 + 2e-15


def test_without_annealing_the_budget_is_the_target_from_the_first_step():
    assert URNetFixed(target=0.6, anneal_epochs=0).annealed(0) == 0.6


@pytest.mark.parametrize(
    "objective,epoch,mean",
    [("annealed", 2.5, 0.75), ("annealed", 5, 0.5), ("gated", 0, 0.5), ("gated", 2.5, 0.5)],
)
def test_each_step_draws_from_a_normal_around_the_budget(objective, epoch, mean):
    budgets = drawn(URNetFixed(target=0.5, noise=0.05), objective, epoch)
    # Five standard errors of 2000 draws: 0.05 / sqrt(2000) and 0.05 / sqrt(4000).
    assert budgets.mean() == pytest.approx(mean, abs=0.0056)
    assert budgets.std() == pytest.approx(0.05, abs=0.004)
    assert len(np.unique(budgets)) > 1900


def test_without_noise_each_step_draws_the_budget_itself():
    assert set(drawn(URNetFixed(target=0.6, noise=0), "gated", n=3)) == {np.float32(0.6)}


def test_half_of_the_first_draws_would_exceed_one_and_are_clipped():
    budgets = drawn(URNetFixed(), "annealed")
    # Five standard errors of a share of 1/2: 0.5 / sqrt(2000) each.
    assert (budgets == 1).mean() == pytest.approx(0.5, abs=0.056)
    assert budgets.max() == 1


@hypothesis.given(
    st.integers(0, 2**32),
    st.tuples(*[st.floats(0, 1)] * 3).map(sorted),
    st.floats(0, 5),
    st.sampled_from(["annealed", "gated"]),
)
def test_a_draw_lies_within_the_range_and_depends_on_the_generator_alone(
    seed, ends, noise, objective
):
    s_min, target, s_max = ends
    network = URNetFixed(s_min=s_min, s_max=s_max, target=target, noise=noise)
    (draw,), (again,) = (
        network.draws(np.random.default_rng(seed), when(objective, step=step)) for step in (0, 7)
    )
    budget = draw.values["budget"]
    assert (draw.subnet, draw.where, budget.dtype) == (FULL, None, np.float32)
    # The draw is rounded to float32, as the ends are here.
    assert np.float32(s_min) <= budget <= np.float32(s_max)
    assert again.values["budget"] == budget


def test_it_is_shown_at_its_target_alone():
    assert URNetFixed(BACKBONE, target=0.6).budgets == (0.6,)


def test_its_phases_may_anneal():
    assert URNetFixed().objectives == ("base", "annealed", "gated")


@pytest.mark.parametrize(
    "fields,message",
    [
        ({"target": 1.2}, "target 1.2 is no budget of this network; from s_min 0 to s_max 1"),
        ({"target": -0.1}, "target -0.1 is no budget"),
        ({"target": 0.1, "s_min": 0.2}, "target 0.1 is no budget .* from s_min 0.2"),
        ({"target": float("nan")}, "target nan is no budget"),
        ({"noise": -0.1}, "noise -0.1 is negative"),
        ({"noise": float("inf")}, "noise inf is negative or not finite"),
        ({"anneal_epochs": -1.0}, "anneal_epochs -1 is negative"),
        ({"anneal_epochs": float("nan")}, "anneal_epochs nan is negative or not finite"),
        ({"p": 2.0}, "p 2 is not a probability"),
    ],
    ids=str,
)
def test_hyperparameters_that_cannot_be_are_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        URNetFixed(BACKBONE, **fields)
