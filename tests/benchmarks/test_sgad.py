"""SGAD's experiments name configs that exist, and compute from their arms what their claims say."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks import sgad, sgad_gradients
from benchmarks.arm import Found
from benchmarks.arms import read
from benchmarks.claims import Claim
from benchmarks.guidance import guidance
from benchmarks.sgad import CONSTANTS, WANTED, in_quarter
from benchmarks.sgad_gradients import in_order
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.sgad.sgad import SGAD
from jax_elastic.errors import UsageError
from tests.warm import warmed

EXPERIMENTS = {**sgad.EXPERIMENTS, **sgad_gradients.EXPERIMENTS}
CASES = [
    (name, scale)
    for name in EXPERIMENTS
    for scale in ("small", "full")
    if (name, scale) != ("sgad_differences", "full")
]
SEEDS, IMAGES, GATES = 3, 80, 14


def made_up(place):
    """What an arm might give: numbers in [0, 1], and costs that follow the blocks kept."""
    draw = np.random.default_rng(place)
    opened = (draw.random((SEEDS, 1, IMAGES, GATES)) < 0.7).astype(float)
    usage = opened.mean(-1)
    shape = usage.shape
    values = {
        "top1": (draw.random(shape) < 0.9).astype(float),
        "usage": usage,
        "macs": 1 + usage,
        "loss": draw.random(shape),
        "kept": opened.mean(2),
        "expected": draw.uniform(0.2, 0.4, shape),
        "decided": draw.random(shape),
        "gradient": draw.random((SEEDS, 1, GATES + 1)),
    }
    return Found((None,), values)


def all_made_up(name, scale="small"):
    experiment = EXPERIMENTS[name](scale)
    return experiment, {arm: made_up(i) for i, arm in enumerate(experiment.arms)}


def rows_of(experiment, found):
    return {claim.text: claim.row() for claim in experiment.claims(found)}


@pytest.mark.parametrize("name,scale", CASES)
def test_every_arm_is_a_config_with_its_settings(name, scale):
    for arm in EXPERIMENTS[name](scale).arms.values():
        given = dict(of.split("=", 1) for of in arm.settings)

        experiment = read(arm.config, 1, given=given)

        assert experiment.seed == 1
        if arm.start is not None:
            source = read(arm.start, 1)
            assert source.network.backbone == experiment.network.backbone
            assert source.data == experiment.data


@pytest.mark.parametrize("name,scale", CASES)
def test_every_experiment_turns_what_its_arms_gave_into_rows(name, scale):
    experiment, found = all_made_up(name, scale)

    rows = rows_of(experiment, found)

    assert len(rows) == len(list(experiment.claims(found))) > 0
    assert all(row["low"] <= row["ours"] <= row["high"] for row in rows.values())


@pytest.mark.parametrize("quarter", range(4))
def test_a_quarters_values_have_its_mean(quarter):
    draw = np.random.default_rng(0)
    values, places = draw.random((2, 12)), np.stack([draw.permutation(12) // 3 for _ in range(2)])

    found = in_quarter(values, places, quarter)

    of_quarter = [values[seed][places[seed] == quarter].mean() for seed in range(2)]
    np.testing.assert_allclose(found.mean(1), of_quarter, rtol=1e-12)


def test_images_whose_loss_is_large_and_who_keep_more_are_found_to_do_so():
    experiment, found = all_made_up("sgad_plans")
    easy = found["plain"].values["loss"] < np.median(found["plain"].values["loss"])
    found["mf"].values["usage"][:] = np.where(easy, 0.5, 0.9)
    found["lf"].values["usage"][:] = np.where(easy, 0.9, 0.5)

    rows = rows_of(experiment, found)

    text = ": the hardest quarter keeps more than the easiest"
    assert rows["mf" + text]["verdict"] == "holds"
    assert rows["lf" + text]["verdict"] == "does not hold"
    assert rows["mf" + text]["ours"] == pytest.approx(0.4)


def test_an_error_of_what_is_expected_does_not_cancel_between_seeds():
    experiment, found = all_made_up("sgad_plans")
    found["mf"].values["usage"][:] = 0.7
    found["mf"].values["expected"][:] = np.array([0.2, 0.4, 0.3])[:, None, None]

    row = rows_of(experiment, found)["mf: |mean expected - mean dropped| <= 0.05"]

    assert row["ours"] == pytest.approx(0.2 / 3)
    assert row["verdict"] == "does not hold"


def test_a_guided_network_is_compared_at_its_own_mean_macs_or_not_at_all():
    experiment, found = all_made_up("sgad_guidelines")
    for i, share in enumerate(CONSTANTS):
        own = found[f"constant {share:g}"].values
        own["macs"][:] = 3.0 - i
        own["top1"][:] = 0.9 - 0.1 * i
    found["mf"].values["macs"][:] = 2.5
    found["mf"].values["top1"][:] = 1.0
    found["convex"].values["macs"][:] = 4.0

    rows = rows_of(experiment, found)

    text = "mf: top-1, less that of constant shares at equal mean MACs, > 0"
    assert rows[text]["ours"] == pytest.approx(100 * (1 - 0.85))
    assert "convex: no constant shares reach its mean MACs, of the plain network's" in rows


def test_the_order_of_blocks_is_spearmans():
    draw = np.random.default_rng(0)
    x, y = draw.random((2, SEEDS, 7))
    y[0, :3] = 0.5

    found = in_order(x, y, np.zeros(7, int))

    expected = [spearmanr(*pair).statistic for pair in zip(x, y, strict=True)]
    np.testing.assert_allclose(found.mean(1), expected, rtol=1e-12)


def test_of_a_perfect_order_nothing_is_left_open():
    x = np.random.default_rng(0).random((SEEDS, GATES))

    row = Claim("order", "correlation", in_order(x, 2 * x, np.zeros(GATES, int))).row()

    assert row["ours"] == pytest.approx(1)
    assert row["low"] == pytest.approx(1)
    assert row["high"] == pytest.approx(1)


def test_what_stages_differ_in_does_not_count_within_them():
    groups = np.array([0, 0, 0, 1, 1, 1])
    x, y = np.array([[1.0, 2, 3, 11, 12, 13]]), np.array([[3.0, 2, 1, 13, 12, 11]])

    assert in_order(x, y, 0 * groups).mean() > 0
    assert in_order(x, y, groups).mean() == pytest.approx(-1)


def test_where_a_seed_keeps_all_blocks_alike_no_number_is_given():
    experiment, found = all_made_up("sgad_gradients")
    found["mf"].values["kept"][1] = 1.0

    rows = rows_of(experiment, found)

    assert "mf: blocks kept have no order by some seed" in rows
    assert "mf: blocks kept and gradients, rank correlation > 0" not in rows
    assert rows["lf: blocks kept and gradients, rank correlation > 0"]["unit"] == "correlation"


def test_a_wanted_share_counts_the_block_that_always_runs():
    experiment, found = all_made_up("sgad_plans")
    found[WANTED].values["usage"][:] = 10 / GATES

    rows = rows_of(experiment, found)

    assert rows[f"{WANTED}: blocks that run"]["ours"] == pytest.approx(11 / 15)
    assert rows[f"{WANTED}: distance from it <= 0.05"]["verdict"] == "holds"


def test_what_digits_need_is_asked_of_digits_alone():
    with pytest.raises(UsageError, match="no scale 'full'"):
        EXPERIMENTS["sgad_differences"]("full")


DATA = DataConfig("digits", (8, 8, 3), mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture(scope="module")
def dataset():
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
    return Dataset("digits", images, np.zeros((12, 1), np.int32), (5,), tuple("abcde"))


def test_of_a_guided_network_it_is_told_what_is_expected_and_how_decided_its_gates_are(dataset):
    network = SGAD(ResNet((2, 1), width=8, classes=5), guideline="constant")

    found = guidance(network, warmed(network, seed=1), dataset, DATA)

    np.testing.assert_allclose(found["expected"][0], np.full(12, network.p_max), rtol=1e-6)
    assert found["decided"][0].shape == (12,)
    assert ((found["decided"][0] > 0) & (found["decided"][0] < 1)).all()


def test_of_other_networks_nothing_is_told(dataset):
    assert not guidance(Plain(ResNet((1,), width=8)), {}, dataset, DATA)
