"""Experiments name configs that exist, and compute from their arms what their claims say."""

import numpy as np
import pytest

from benchmarks.arm import Found
from benchmarks.corruption import noisy
from benchmarks.urnet import EXPERIMENTS
from jax_elastic.cli.flags import read_config
from jax_elastic.data.datasets import Dataset

CASES = [(name, scale) for name in EXPERIMENTS for scale in ("small", "full")]


def made_up(arm, seed=0, images=40):
    """What an arm might give: numbers in [0, 1], more use of blocks at larger budgets."""
    generator = np.random.default_rng(seed)
    budgets = arm.budgets or (None,)
    shape = (3, len(budgets), images)
    asked = np.array([1.0 if b is None else b for b in budgets])[None, :, None]
    usage = np.clip(asked + generator.normal(0, 0.02, shape), 0, 1)
    values = {"top1": (generator.random(shape) < 0.9).astype(float), "usage": usage, "macs": usage}
    return Found(budgets, values)


@pytest.mark.parametrize("name,scale", CASES)
def test_every_arm_names_configs_that_exist_and_can_give_its_variables(name, scale):
    arms = EXPERIMENTS[name](scale).arms

    for arm in arms.values():
        experiment, _ = read_config([f"--config={arm.config}"], "")
        assert bool(arm.budgets) == bool(experiment.network.budgets)
        for other in filter(None, (arm.start, arm.trained_as)):
            source, _ = read_config([f"--config={other}"], "")
            assert source.network.backbone == experiment.network.backbone
            assert source.data == experiment.data


@pytest.mark.parametrize("name,scale", CASES)
def test_every_experiment_turns_what_its_arms_gave_into_rows(name, scale):
    experiment = EXPERIMENTS[name](scale)
    found = {arm: made_up(made, i) for i, (arm, made) in enumerate(experiment.arms.items())}

    rows = [claim.row() for claim in experiment.claims(found)]

    assert rows
    assert len({row["claim"] for row in rows}) == len(rows)
    assert all(row["low"] <= row["ours"] <= row["high"] for row in rows)


def test_a_network_that_keeps_every_budget_meets_the_bars_of_the_demo():
    experiment = EXPERIMENTS["urnet_budgets"]("small")
    found = {name: made_up(arm) for name, arm in experiment.arms.items()}
    # Both tell every image right: no loss against the plain network.
    for arm in found.values():
        arm.values["top1"][:] = 1.0

    verdicts = {claim.text: claim.row()["verdict"] for claim in experiment.claims(found)}

    assert set(verdicts.values()) <= {"holds", "measured"}
    assert sum(verdict == "holds" for verdict in verdicts.values()) == 11


def test_a_tracking_error_does_not_cancel_between_seeds():
    experiment = EXPERIMENTS["urnet_budgets"]("small")
    found = {name: made_up(arm) for name, arm in experiment.arms.items()}
    urnet = found["urnet"]
    urnet.values["usage"][:, urnet.budgets.index(0.5)] = np.array([0.4, 0.6, 0.5])[:, None]

    (claim,) = [c for c in experiment.claims(found) if "S = 0.5" in c.text]

    assert claim.row()["ours"] == pytest.approx(0.2 / 3)
    assert claim.row()["verdict"] == "does not hold"


def test_ranged_is_compared_with_fixed_at_the_mean_macs_of_each_seed():
    experiment = EXPERIMENTS["urnet_fixed"]("small")
    found = {name: made_up(arm) for name, arm in experiment.arms.items()}
    # Accuracy of the ranged network grows with its cost, so matching it means equal accuracy.
    found["urnet"].values["top1"][:] = found["urnet"].values["macs"]
    own = found["fixed0.5"].values
    own["macs"][:, 0] = np.array([0.31, 0.52, 0.68])[:, None]
    own["top1"][:] = own["macs"]

    (claim,) = [c for c in experiment.claims(found) if c.text.startswith("Fixed(0.5): top-1")]

    assert np.allclose(claim.values.mean(1), 0, atol=1e-9)


@pytest.mark.parametrize("macs", [0.01, 1.5])
def test_fixed_is_compared_with_nothing_where_ranged_does_not_reach_its_macs(macs):
    experiment = EXPERIMENTS["urnet_fixed"]("small")
    found = {name: made_up(arm) for name, arm in experiment.arms.items()}
    found["fixed0.5"].values["macs"][2] = macs

    texts = [c.text for c in experiment.claims(found) if c.text.startswith("Fixed(0.5)")]

    assert "Fixed(0.5): ranged does not reach its mean MACs" in texts
    assert not any("top-1" in text for text in texts)


def test_only_what_the_paper_claims_is_judged():
    experiment = EXPERIMENTS["urnet_baselines"]("small")
    found = {name: made_up(arm, i) for i, (name, arm) in enumerate(experiment.arms.items())}

    judged = [c.text for c in experiment.claims(found) if c.row()["verdict"] != "measured"]

    assert judged == [
        "top-1 of urnet less that of rand_val > 0",
        "top-1 of urnet less that of rand_train > 0",
        "top-1 of urnet less that of external > 0",
        "blocks of urnet less those of external < 0",
        "top-1 of urnet less that of sg > 0",
        "top-1 of urnet less that of bg > 0",
        "blocks of urnet less those of bg < 0",
        "top-1 of urnet less that of ba_rand > 0",
    ]


def test_noise_is_the_same_in_every_call_and_leaves_labels_alone():
    images = np.full((4, 8, 8, 1), 128, np.uint8)
    dataset = Dataset("grey", images, np.zeros((4, 1), np.int32), (10,), ("a",) * 10)

    once, again = noisy(dataset), noisy(dataset)

    assert np.array_equal(once.images, again.images)
    assert not np.array_equal(once.images, images)
    assert once.labels is dataset.labels
