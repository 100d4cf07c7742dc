"""Which way an engine chooses, and what it says of it."""

import gc
import logging
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toy import Toy
from warm import BACKBONE, SMALL, keys_of, random_images, warmed

from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.urnet.random_drop import RandomDrop
from jax_elastic.errors import UsageError
from jax_elastic.inference import auto
from jax_elastic.inference.auto import Trial, quickest, why
from jax_elastic.inference.calibrate import Inputs, tried_sizes
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.program import PROGRAMS, program
from jax_elastic.inference.ways import Bucketed, Compacted, Masked
from jax_elastic.subnet import FULL, Subnet

IMAGES = random_images(8, 1)
TRIALS = {
    "masked": Trial(Masked(), 1.0, 1.02),
    "compacted": Trial(Compacted(), 0.3, 1.2),
}


def test_no_time_is_expected_to_be_less_than_nothing():
    assert Trial(Masked(), 0.2, 1.05).at(0) == 0


@pytest.mark.parametrize(("usage", "name"), [(0.1, "compacted"), (0.6, "compacted"), (1, "masked")])
def test_the_quickest_at_the_expected_usage_is_picked(usage, name):
    assert quickest(TRIALS, usage) == name


def test_times_are_expected_on_a_line_through_both_trials():
    assert [Trial(Masked(), 0.4, 1.0).at(usage) for usage in (0.25, 0.625, 1)] == [0.4, 0.7, 1.0]


def test_what_is_picked_is_said_with_the_times_of_the_others():
    text = why(TRIALS, 0.625, "full, batches of 8", "as told")
    assert "compacted for full, batches of 8 on cpu" in text
    assert "62% of the blocks open (as told), in times of all blocks without gates" in text
    assert "masked 1.01, compacted 0.75" in text
    assert "slower" not in text


def test_a_pick_that_is_slower_than_without_gates_is_told_to_be():
    assert why(TRIALS, 1.0, "full", "the budget").endswith("so skipping gains nothing here")


def test_auto_computes_what_masking_does_and_says_what_it_took():
    variables = warmed(SMALL, 9)
    expected = build_engine(SMALL, variables, "masked")(IMAGES, FULL, 0.6)
    engine = build_engine(SMALL, variables, engine="auto", batch_size=8)
    assert not engine.why

    found = engine(IMAGES, budget=0.6, gates=expected.gates >= 0)

    tolerance = 1e-5 * np.abs(expected.logits[0]).max()
    np.testing.assert_allclose(found.logits[0], expected.logits[0], rtol=0, atol=tolerance)
    assert "for full, batches of 8 on cpu: expected with 60% of the blocks open" in engine.why
    engine(IMAGES, budget=0.6)
    assert engine.why.count("\n") == 0


def test_auto_expects_the_usage_that_it_is_told_rather_than_the_budget():
    network = RandomDrop(BACKBONE)
    engine = build_engine(network, warmed(network, 9), batch_size=4, usage=0.3)
    engine(IMAGES, budget=0.9, keys=keys_of(network, 8))
    assert "batches of 4 on cpu: expected with 30% of the blocks open" in engine.why


def test_auto_measures_what_a_network_without_budgets_opens():
    engine = build_engine(Toy(), warmed(Toy(), 9))
    engine(IMAGES)
    opened = float((np.asarray(engine(IMAGES).gates) >= 0).mean())
    assert f"expected with {opened:.0%} of the blocks open" in engine.why


def test_auto_lets_as_many_pass_as_the_capacity_says_whatever_the_batch():
    variables, half = warmed(SMALL, 9), Subnet("capacity", (0.5,))
    engine = build_engine(SMALL, variables, batch_size=8)
    for size in (8, 3):
        images = IMAGES[:size]
        expected = build_engine(SMALL, variables, "masked")(images, half, 0.6)
        found = engine(images, half, 0.6)
        tolerance = 1e-5 * np.abs(expected.logits[0]).max()
        np.testing.assert_allclose(found.logits[0], expected.logits[0], rtol=0, atol=tolerance)
    assert "gathered" in engine.why


@pytest.mark.slow
def test_a_budget_that_makes_auto_choose_otherwise_compiles_nothing(monkeypatch, caplog):
    engine = build_engine(SMALL, warmed(SMALL, 9), batch_size=8)
    trials = []

    def remember(runs, rounds):
        trials.append(runs)
        # As if skipping lost above the middle.
        seconds = {("compacted", 0.25): 0.3, ("compacted", 1.0): 2.0}
        for run in runs.values():
            run()
        return {name: np.array([seconds.get(name, 1.0)]) for name in runs}

    monkeypatch.setattr(auto, "interleaved", remember)
    engine(IMAGES, FULL, 0.2)
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        engine(IMAGES, FULL, 0.9)
        assert not compiled(caplog)
        program.cache_clear()  # what the line above would see
        engine(IMAGES, FULL, 0.2)
        assert compiled(caplog)
    assert len(trials) == 1
    assert engine.why.count("\n") == 1


def compiled(caplog):
    """What was compiled, by name."""
    return [r for r in caplog.records if r.getMessage().startswith("Compiling")]


def test_an_engine_that_calibrates_itself_cannot_be_traced_first():
    engine = build_engine(SMALL, warmed(SMALL, 9), "compacted")
    with pytest.raises(UsageError, match=r"cannot be called first under jax.jit; call it once"):
        jax.jit(lambda images: engine(images, FULL, 0.6).logits[0])(IMAGES)


def test_what_a_capacity_lets_pass_is_said_to_be_gathered():
    engine = build_engine(SMALL, warmed(SMALL, 9), "sequential")
    engine(IMAGES, Subnet("capacity", (0.5,)))
    assert engine.why.startswith("capacity:0.5: those who pass are gathered")


def test_an_engine_that_is_let_go_is_gone_at_once():
    engine = build_engine(SMALL, warmed(SMALL, 9), "masked")
    watched = weakref.ref(engine)
    gc.disable()
    try:
        del engine
        assert watched() is None
    finally:
        gc.enable()


def test_where_no_gate_decides_there_is_nothing_to_choose():
    engine = build_engine(Plain(BACKBONE), warmed(Plain(BACKBONE)))
    engine(IMAGES)
    assert engine.why == "full: no gate decides, so there is one way"


@pytest.mark.slow
def test_micro_batches_are_calibrated_for_each_kind_of_block_once():
    engine = build_engine(SMALL, warmed(SMALL, 9), "compacted", batch_size=8)
    engine(IMAGES, FULL, 0.6)
    way = engine.way(IMAGES, FULL, 0.6)

    codes = {segment.code for segment in SMALL.segments(FULL) if segment.role == "gated"}
    assert {code for code, _ in way.sizes} == codes
    assert {size for _, size in way.sizes} <= {1, 2}
    assert engine.way(IMAGES[:3], FULL, 0.6) == way
    assert engine.why.startswith("compacted for full, batches of 8: micro-batches of ")


@pytest.mark.parametrize(
    ("batch", "platform", "sizes"),
    [
        (1, "cpu", (1,)),
        (8, "cpu", (1, 2)),
        (256, "cpu", (4, 8, 16, 32, 64)),
        (128, "gpu", (8, 16, 32, 64)),
        (4096, "gpu", (256,)),
        (8192, "gpu", (256,)),
        (20000, "cpu", (256,)),
    ],
)
def test_micro_batches_are_tried_that_suit_the_batch(batch, platform, sizes):
    assert tried_sizes(batch, platform) == sizes


def test_another_batch_size_than_that_of_the_call_is_made_of_its_images():
    keys = jnp.arange(3)
    found = Inputs(jnp.asarray(IMAGES[:3]), None, keys).of_size(5)
    np.testing.assert_array_equal(found.images, IMAGES[[0, 1, 2, 0, 1]])
    assert found.keys.tolist() == [0, 1, 2, 0, 1]


def test_buckets_end_with_the_whole_batch():
    assert Bucketed(8).capacities(256) == (0, 32, 64, 96, 128, 160, 192, 224, 256)
    assert Bucketed(8).capacities(3) == (0, 1, 2, 3)


def test_a_bounded_number_of_programs_is_kept():
    assert program.cache_info().maxsize == PROGRAMS == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "fast"}, "unknown engine 'fast'; one of auto, masked"),
        ({"batch_size": 0}, "batch_size 0 is no number of images"),
        ({"batch_size": 2.5}, "batch_size 2.5 is no number of images; 1 or more"),
        ({"usage": 1.5}, r"usage 1.5 is no share of the blocks; in \[0, 1\]"),
    ],
)
def test_what_cannot_be_built_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        build_engine(SMALL, warmed(SMALL, 9), **options)
