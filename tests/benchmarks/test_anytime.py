"""The anytime experiments compare what they say, of networks that cost the same."""

import numpy as np
import pytest

from benchmarks import reproduce
from benchmarks.anytime import EXPERIMENTS, at
from benchmarks.anytime_arms import NESTED, NETWORKS, WIDE
from benchmarks.arm import Arm, Found
from benchmarks.arms import Runner
from jax_elastic.cli.flags import read_config
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel

TINY = """
from ml_collections import ConfigDict


def get_config(variant):
    backbone = {"stage_sizes": (1,), "width": 4, "branches": 2, "branch_width": 2}
    config = ConfigDict()
    config.schema = 1
    config.data = {"name": "digits"}
    config.steps_per_dispatch = 1
    config.network = {"family": "iresnext", "backbone": backbone, "subnetworks": 2}
    base = {"name": "base", "objective": "anytime", "epochs": 0.1, "learning_rate": 0.01}
    config.phases = (base,)
    return config
"""


def macs(network, image_shape=(12, 12, 1)):
    costs = CostModel(network, image_shape)
    return [costs.cost(subnet).full for subnet in network.subnets.shown()]


def made_up(arm, seed):
    """What an arm might give: more right answers at wider exits, the true costs."""
    network = NETWORKS[arm.config.partition(":")[2]]
    costs = np.array(macs(network), float)
    right = np.random.default_rng(seed).random((3, len(costs), 40))
    top1 = (right < 0.5 + 0.4 * costs[:, None] / max(costs)).astype(float)
    return Found((None,), {"top1": top1, "macs": np.broadcast_to(costs[:, None], top1.shape)})


def rows_of(name):
    experiment = EXPERIMENTS[name]("small")
    found = {arm: made_up(made, i) for i, (arm, made) in enumerate(experiment.arms.items())}
    return found, {claim.text: claim for claim in experiment.claims(found)}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_arm_reads_back_as_the_network_that_it_names(name):
    experiment, named = read_config([f"--config=benchmarks/anytime_arms.py:{name}"], "")

    assert experiment.network == NETWORKS[name]
    assert named == f"anytime_arms-{name}"


@pytest.mark.parametrize("k", NESTED)
def test_thin_and_shallow_cost_the_same_up_to_their_classifiers(k):
    (thin,), (shallow,) = macs(NETWORKS[f"thin{k}"]), macs(NETWORKS[f"shallow{k}"])

    assert thin == pytest.approx(shallow, rel=0.005)


def test_the_one_pass_network_costs_no_more_than_the_nested_one_at_any_exit():
    shares = np.array(macs(NETWORKS["is"])) / macs(NETWORKS["i"])

    assert (shares <= 1).all() and shares[-1] > 0.95
    assert len(shares) == WIDE.subnetworks


@pytest.mark.parametrize(
    "name,judged",
    [
        ("anytime_bn", ["k = 1: top-1 of own BN less that of shared > 0"]),
        ("anytime_thin", [f"top-1 of thin {k} less that of shallow {k} > 0" for k in NESTED]),
        ("anytime_is", []),
    ],
)
def test_only_what_the_paper_claims_is_judged(name, judged):
    _, claims = rows_of(name)

    rows = [claim.row() for claim in claims.values()]

    assert [row["claim"] for row in rows if row["verdict"] != "measured"] == judged
    # Costs are the same for all images, up to the rounding of their mean.
    assert all(row["low"] <= row["ours"] + 1e-9 <= row["high"] + 2e-9 for row in rows)


def test_differences_are_of_the_same_exit_of_both_networks():
    found, claims = rows_of("anytime_is")

    for k in (1, 3):
        ours, theirs = (at(found[name], "top1", k).mean() for name in ("is", "i"))
        assert claims[f"k = {k}: top-1 of IS"].values.mean() == pytest.approx(100 * ours)
        less = claims[f"k = {k}: top-1 of IS less that of I"].values.mean()
        assert less == pytest.approx(100 * (ours - theirs))


def test_the_costs_that_are_compared_are_those_of_the_two_networks():
    _, claims = rows_of("anytime_is")

    share = claims["k = 1: MACs of IS less those of I, of the latter"].values.mean()

    assert share == pytest.approx(macs(NETWORKS["is"])[0] / macs(NETWORKS["i"])[0] - 1)


def test_an_arm_with_several_exits_gives_a_row_for_each(tmp_path):
    (tmp_path / "tiny.py").write_text(TINY)
    arm = Arm(f"{tmp_path}/tiny.py")

    found = Runner(tmp_path, lambda: False, lambda line: None).find(arm, seeds=1)

    experiment, _ = read_config([f"--config={arm.config}"], "")
    assert at(found, "top1", 2).shape == (1, 359)
    costs = macs(experiment.network, (8, 8, 1))
    assert [at(found, "macs", k).mean() for k in (1, 2)] == costs
    assert costs[0] < costs[1]


def test_another_scale_is_refused():
    with pytest.raises(UsageError, match="anytime experiments have no scale 'full'"):
        reproduce.main(["anytime_bn", "--scale=full", "--compilation_cache="])
