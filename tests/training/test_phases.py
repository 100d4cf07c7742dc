"""Phases: where they lie in time, their learning rates and optimizers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_elastic.errors import UsageError
from jax_elastic.training.phases import Phase, make_optimizer, make_schedule, spans


def phase(**fields):
    values = {"name": "only", "epochs": 10, "objective": "base", "learning_rate": 0.5}
    return Phase(**{**values, "batch_size": 10, **fields})


def span(size=100, **fields):
    (found,) = spans((phase(**fields),), size)
    return found


def test_phases_stand_end_to_end():
    phases = (phase(name="a", epochs=2), phase(name="b", epochs=1.5, batch_size=20))
    first, second = spans(phases, 100)
    assert (first.index, first.start, first.stop, first.start_epoch) == (0, 0, 20, 0)
    # 1.5 passes of 5 steps: 7.5, rounded to even.
    assert (second.index, second.start, second.stop, second.start_epoch) == (1, 20, 28, 2)
    assert (first.steps, second.steps) == (20, 8)


@pytest.mark.parametrize(
    "size,batch,epochs,steps",
    [(100, 10, 0.3, 3), (101, 10, 10, 101), (95, 10, 1, 10), (94, 10, 1, 9), (100, 128, 0.01, 1)],
)
def test_a_phase_has_whole_steps_and_at_least_one(size, batch, epochs, steps):
    assert span(size, batch_size=batch, epochs=epochs).steps == steps


def test_when_counts_fractional_epochs_over_all_phases_and_in_this_one():
    phases = (phase(name="a", epochs=1), phase(name="b", epochs=2, objective="gated"))
    _, second = spans(phases, 95)
    when = second.when(14)
    assert (when.step, when.phase_step, when.phase_steps) == (14, 4, 19)
    # Float64 roundings.
    assert when.epoch == pytest.approx(14 * 10 / 95, rel=1e-12)
    assert when.phase_epoch == pytest.approx(4 * 10 / 95, rel=1e-12)
    assert (when.phase, when.objective) == ("b", "gated")


def rates(found):
    # The schedules are float32.
    return np.array([float(make_schedule(found)(step)) for step in range(found.steps + 1)])


def test_a_constant_learning_rate_is_constant():
    np.testing.assert_array_equal(rates(span()), np.full(101, 0.5))


def test_cosine_goes_from_the_first_learning_rate_through_the_mean_to_the_last():
    found = rates(span(schedule="cosine", final_learning_rate=0.1))
    # Float32 roundings of a cosine.
    np.testing.assert_allclose(found[[0, 50, 100]], [0.5, 0.3, 0.1], rtol=1e-6)
    assert (np.diff(found) < 0).all()


def test_cosine_after_a_warm_up_has_its_ends_at_the_end_of_each():
    warm = {"warmup_epochs": 2, "warmup": "constant", "warmup_learning_rate": 0.05}
    found = rates(span(schedule="cosine", **warm))
    np.testing.assert_allclose(found[:20], 0.05, rtol=1e-6)
    # The last learning rate of a cosine is 0 up to the rounding of pi.
    np.testing.assert_allclose(found[[20, 60, 100]], [0.5, 0.25, 0], rtol=1e-6, atol=1e-7)


def test_a_linear_warm_up_and_a_linear_decay_meet_at_the_learning_rate():
    warm = {"warmup_epochs": 2, "warmup_learning_rate": 0.1}
    found = rates(span(schedule="linear", final_learning_rate=0.1, **warm))
    np.testing.assert_allclose(found[[0, 10, 20, 60, 100]], [0.1, 0.3, 0.5, 0.3, 0.1], rtol=1e-6)


def test_two_milestones_in_one_step_decay_twice():
    found = rates(span(schedule="step", milestones=(3, 3.01), decay=0.1))
    np.testing.assert_allclose(found[[29, 31]], [0.5, 0.005], rtol=1e-6)


@pytest.mark.parametrize("warmup", [0, 1])
def test_milestones_are_epochs_of_the_phase_whether_or_not_it_warms_up(warmup):
    found = rates(span(schedule="step", milestones=(3, 6.5), decay=0.1, warmup_epochs=warmup))
    expected = np.repeat([0.5, 0.05, 0.005], [30, 35, 36])
    expected[: 10 * warmup] = np.linspace(0, 0.5, 10 * warmup, endpoint=False)
    # Float32 products.
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_milestone_within_the_warm_up_counts_when_the_warm_up_is_over():
    found = rates(span(schedule="step", milestones=(1,), warmup_epochs=2))
    np.testing.assert_allclose(found[20:], 0.05, rtol=1e-6)


def test_the_schedule_of_a_later_phase_begins_with_that_phase():
    phases = (phase(name="a"), phase(name="b", schedule="step", milestones=(1,)))
    _, second = spans(phases, 100)
    assert make_schedule(second)(9) == pytest.approx(0.5)
    assert make_schedule(second)(10) == pytest.approx(0.05)


WARM = {"warmup_epochs": 2, "warmup_learning_rate": 0.1}
KINDS = {
    "constant": {},
    "cosine": {"final_learning_rate": 0.01},
    "linear": {},
    "step": {"milestones": (1.5, 6)},
}


@pytest.mark.parametrize("warmup", [{}, WARM, {**WARM, "warmup": "constant"}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epochs", [(6, 4), (1, 2, 7)], ids=str)
def test_phases_that_share_a_schedule_have_the_very_learning_rates_of_one(epochs, kind, warmup):
    size = 95  # no epoch ends with a step
    one = {"schedule": kind, **KINDS[kind], **warmup}
    (alone,) = spans((phase(**one),), size)
    parts = tuple(
        phase(name=str(i), epochs=own, schedule_start=sum(epochs[:i]), schedule_epochs=10, **one)
        for i, own in enumerate(epochs)
    )

    joined = np.concatenate([rates(part)[:-1] for part in spans(parts, size)])

    assert len(joined) == alone.steps
    np.testing.assert_array_equal(joined, rates(alone)[:-1])


def test_a_schedule_that_begins_before_a_phase_ends_with_it_where_no_other_end_is_said():
    found = rates(span(schedule="linear", epochs=4, schedule_start=6))
    # Float32 roundings; 0.5 at the start of ten epochs.
    np.testing.assert_allclose(found[[0, 20, 40]], [0.2, 0.1, 0], rtol=1e-6, atol=1e-8)


def test_a_schedule_that_is_over_before_its_phase_is_refused():
    expected = "schedule_epochs 9 of phase 'only' are over before the phase, at epoch 10.1 of"
    with pytest.raises(UsageError, match=expected):
        phase(epochs=4, schedule_start=6.1, schedule_epochs=9)


def descend(found, steps, gradient):
    """Parameters after each of some steps, in float64."""
    optimizer = make_optimizer(found)
    with jax.enable_x64(True):
        params, done = jnp.array([1.0, -2.0]), []
        state = optimizer.init(params)
        for _ in range(steps):
            updates, state = optimizer.update(gradient(params), state, params)
            params = optax.apply_updates(params, updates)
            done.append(np.asarray(params))
    return np.stack(done)


def square(params):
    return 3 * params**2


@pytest.mark.parametrize("nesterov", [False, True])
def test_three_steps_of_sgd_are_the_hand_computation(nesterov):
    settings = {"momentum": 0.9, "weight_decay": 0.01, "nesterov": nesterov}
    found = descend(span(schedule="step", milestones=(0.2,), **settings), 3, square)
    expected, params, trace = [], np.array([1.0, -2.0]), np.zeros(2)
    for rate in (0.5, 0.5, 0.05):
        gradient = 3 * params**2 + 0.01 * params
        trace = gradient + 0.9 * trace
        params = params - rate * (gradient + 0.9 * trace if nesterov else trace)
        expected.append(params)
    # The learning rate is float32; the rest is float64.
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_sgd_without_momentum_is_gradient_descent():
    found = descend(span(momentum=0.0), 1, square)
    np.testing.assert_allclose(found[0], [1 - 0.5 * 3, -2 - 0.5 * 12], rtol=1e-6)


def test_three_steps_of_adam_are_the_hand_computation():
    found = descend(span(optimizer="adam", learning_rate=0.1, weight_decay=0.01), 3, square)
    expected, params = [], np.array([1.0, -2.0])
    first, second = np.zeros(2), np.zeros(2)
    for step in (1, 2, 3):
        # Weight decay is part of the gradient (L2), as documented; not AdamW.
        gradient = 3 * params**2 + 0.01 * params
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        mean, spread = first / (1 - 0.9**step), second / (1 - 0.999**step)
        params = params - 0.1 * mean / (np.sqrt(spread) + 1e-8)
        expected.append(params)
    # Optax's powers of the decays are float32.
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_what_does_not_decay_is_chosen_by_its_path():
    (found,) = spans((phase(momentum=0.0, weight_decay=0.1, decayed="kernel$"),), 100)
    params = {"conv": {"kernel": jnp.ones(1)}, "bn": {"scale": jnp.ones(1), "bias": jnp.ones(1)}}
    optimizer = make_optimizer(found)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["conv"]["kernel"], -0.5 * 0.1, rtol=1e-6)
    assert updates["bn"] == {"scale": 0, "bias": 0}


@pytest.mark.parametrize("fields", [{"optimizer": "adam"}, {"momentum": 0.0}], ids=str)
def test_nesterov_without_a_momentum_is_refused(fields):
    with pytest.raises(UsageError, match="nesterov of phase 'only' has no momentum to act on"):
        phase(nesterov=True, **fields)


def test_a_pattern_that_no_parameter_decays_by_is_refused():
    (found,) = spans((phase(weight_decay=0.1, decayed="weight"),), 100)
    with pytest.raises(UsageError, match="decayed 'weight' matches no parameter"):
        make_optimizer(found).init({"conv": {"kernel": jnp.ones(1)}})


@pytest.mark.parametrize(
    "field,value,message",
    [
        ("momentum", 1.0, "momentum 1.0 of phase 'only' is not below 1"),
        ("label_smoothing", 1.0, "label_smoothing 1.0 of phase 'only' is not in [0, 1)"),
        ("accumulate", 0, "accumulate 0 of phase 'only' is not positive"),
        ("epochs", 0, "epochs 0 of phase 'only' is not positive"),
        ("learning_rate", -1.0, "learning_rate -1.0 of phase 'only' is not positive"),
        ("learning_rate", float("nan"), "learning_rate nan of phase 'only' is not positive"),
        ("learning_rate", float("inf"), "learning_rate inf of phase 'only' is not positive"),
        ("batch_size", 0, "batch_size 0 of phase 'only' is not positive"),
        ("final_learning_rate", -0.1, "final_learning_rate -0.1 of phase 'only' is negative"),
        ("warmup_epochs", -1, "warmup_epochs -1 of phase 'only' is negative"),
        ("schedule_start", -1.0, "schedule_start -1.0 of phase 'only' is negative"),
        ("schedule_epochs", float("inf"), "schedule_epochs inf of phase 'only' is negative"),
        ("weight_decay", -1e-4, "weight_decay -0.0001 of phase 'only' is negative"),
        ("momentum", -0.9, "momentum -0.9 of phase 'only' is negative"),
    ],
)
def test_a_value_without_meaning_is_refused_when_the_phase_is_made(field, value, message):
    with pytest.raises(UsageError) as error:
        dataclasses.replace(phase(), **{field: value})
    assert message in str(error.value)
