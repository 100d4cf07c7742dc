"""Images that choose are compared with their candidates alone, at equal mean MACs."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks import arms, choices
from benchmarks.arm import Arm, Found
from benchmarks.choices import teach
from benchmarks.resizable import ALL
from benchmarks.resizable_adapt import EXPERIMENTS, MOST, mixed
from benchmarks.resizable_arms import CANDIDATES, TRAININGS
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli.flags import read_config
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.targets import Targets
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import write_json
from jax_elastic.inference.measures import Measures
from tests.found_rows import table_row
from tests.warm import random_weights

SEEDS, IMAGES = 2, 40
POOLS = [(ALL[0], ALL[5], ALL[9]), (ALL[0], ALL[2], ALL[26])]
PRICES = np.arange(1.0, 28)  # of the points, in the order of ALL
PROBE = 1.5  # with the learner, in the same unit


def taught(pool, seed):
    """What training images might be taught."""
    given = np.random.default_rng(seed).random((30, CANDIDATES)).astype(np.float32)
    return Targets(np.arange(30, dtype=np.int32), pool, "hash", "train", given, given > 0.5)


@pytest.fixture
def found():
    """What both arms might give: seeds of different candidates, and choices at random."""
    draw = np.random.default_rng(0)
    right = (draw.random((SEEDS, 27, IMAGES)) < 0.7).astype(float)
    macs = np.broadcast_to(PRICES[:, None], right.shape)
    choice = np.stack([draw.integers(k, size=(SEEDS, IMAGES)) for k in range(1, CANDIDATES + 1)], 1)
    prices = np.array([[PRICES[ALL.index(name)] for name in pool] for pool in POOLS])
    places = [[ALL.index(name) for name in pool] for pool in POOLS]
    own = np.stack([right[seed][places[seed]] for seed in range(SEEDS)])
    values = {
        "top1": np.take_along_axis(own, choice, 1),
        "macs": PROBE + np.where(choice > 0, prices[np.arange(SEEDS)[:, None, None], choice], 0),
        "choice": choice.astype(float),
    }
    points = tuple(f"adapt:{k}" for k in range(1, CANDIDATES + 1))
    targets = tuple(taught(pool, seed) for seed, pool in enumerate(POOLS))
    return {
        "before": Found((None,), {"top1": right, "macs": macs}, ALL),
        "adapt": Found((None,), values, points, targets),
    }


def claims_of(found):
    return {claim.text: claim for claim in EXPERIMENTS["resizable_adapt"]("small").claims(found)}


def test_between_two_candidates_each_is_met_by_its_share():
    right = np.array([[[0.0, 100.0], [100.0, 100.0], [100.0, 0.0]]])
    costs = np.array([[[1.0, 1.0], [3.0, 3.0], [4.0, 4.0]]])

    static = mixed(right, costs, np.array([2.5]))

    np.testing.assert_allclose(static, [[75.0, 100.0]])


@pytest.mark.parametrize("macs,place", [(0.5, 0), (1.0, 0), (3.0, 1), (4.0, 2), (9.0, 2)])
def test_at_a_candidate_and_beyond_the_ends_it_is_that_candidate_alone(macs, place):
    right = np.random.default_rng(0).random((1, 3, 5))
    costs = np.broadcast_to(np.array([1.0, 3.0, 4.0])[None, :, None], right.shape)

    np.testing.assert_array_equal(mixed(right, costs, np.array([macs]))[0], right[0, place])


def test_who_chooses_one_candidate_for_all_images_gains_nothing_without_the_probe(found):
    adapt = found["adapt"]
    one = np.full_like(adapt.values["choice"], 1)
    top1 = found["before"].values["top1"]
    own = np.stack([top1[seed, ALL.index(POOLS[seed][1])] for seed in range(SEEDS)])
    values = {**adapt.values, "choice": one, "top1": np.repeat(own[:, None], CANDIDATES, 1)}
    found["adapt"] = dataclasses.replace(adapt, values=values)

    gain = claims_of(found)[f"{MOST}: chosen less static > 0, without the probe"]

    np.testing.assert_allclose(gain.values, 0, atol=1e-12)


def test_each_seed_is_compared_with_its_own_candidates_and_they_are_named(found):
    claims = claims_of(found)

    third = claims["candidate 3: top-1"].values
    name = f"candidate 3, {POOLS[0][2]}, {POOLS[1][2]}: MACs, of the fullest's"
    np.testing.assert_allclose(claims[name].values.mean(1), [10 / 27, 1])
    top1 = found["before"].values["top1"]
    np.testing.assert_array_equal(third, 100 * np.stack([top1[0, 9], top1[1, 26]]))


def test_the_shares_of_what_is_chosen_and_of_what_is_best_come_to_one(found):
    claims = claims_of(found)

    for told, size in (("chosen by test images", IMAGES), ("best for training images", 30)):
        shares = sum(claims[f"candidate {place}: {told}"].values for place in (1, 2, 3))
        np.testing.assert_array_equal(shares, np.ones((SEEDS, size)))


def test_only_what_choosing_gains_is_judged(found):
    rows = [claim.row() for claim in claims_of(found).values()]

    assert [row["claim"] for row in rows if row["verdict"] != "measured"] == [
        f"adapt:{k}: chosen less static > 0, {cost}"
        for k in (2, 3)
        for cost in ("probe included", "without the probe")
    ]


def test_the_run_that_chooses_learns_on_the_network_it_is_compared_with():
    made = EXPERIMENTS["resizable_adapt"]("small").arms
    experiment, _ = read_config([f"--config={made['adapt'].config}"], "")

    assert made["adapt"].start == made["before"].config
    assert experiment.network == TRAININGS["adapt"].network
    assert experiment.network.base == TRAININGS["fair_twice"].network
    (phase,) = experiment.phases
    assert (phase.objective, phase.finetune, phase.batch_size) == ("learner", True, 32)


def test_an_arm_that_chooses_between_points_of_no_run_is_refused():
    with pytest.raises(ValueError, match="starts from no run"):
        Arm("any", candidates=2)


TINY = Resizable(ResNet((1,), width=2), scales=(0.5, 1.0), side=8)


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """A workdir with the table of a search, its experiment, and the table's writer."""
    experiment = read_config(["--config=benchmarks/resizable_arms.py:fair"], "")[0]
    experiment = dataclasses.replace(experiment, network=TINY, data=DataConfig())
    fresh = random_weights(TINY, image=(8, 8, 1))

    def counted(leaf):
        return np.ones_like(leaf) if leaf.dtype == np.int32 else leaf

    variables = jax.tree.map(counted, fresh)
    meta = {"hashes": {"variables": "hash"}, "item": "variables"}
    monkeypatch.setattr(choices, "load_variables", lambda *of: (variables, meta))

    def tabled(*top1):
        write_table(tmp_path, TINY, "hash", 143, top1)

    return tmp_path, experiment, tabled


def write_table(workdir, network, checkpoint, n, top1):
    """The table of a search that found the dearer points as accurate as they are said to be."""
    known = {"split": "validation", "n": n, "hash": checkpoint}
    rows = [
        table_row(subnet=str(point), macs=place, top1=share, **known)
        for place, (point, share) in enumerate(zip(network.subnets, top1, strict=True))
    ]
    write_json(workdir / "search.json", "search", rows)


def test_all_training_images_are_taught_once_and_then_read(trained, monkeypatch):
    workdir, experiment, tabled = trained
    tabled(0.5, 0.9)
    lines, again = [], []

    targets, path = teach(workdir, experiment, 2, lines.append)
    read, _ = teach(workdir, experiment, 2, again.append)

    assert targets.candidates == ("resolution:0.5", "resolution:1")
    np.testing.assert_array_equal(targets.ids, np.arange(1295))
    assert (targets.done, path) == (1295, workdir / "targets.npz")
    assert (len(lines), again) == (6, [])
    np.testing.assert_array_equal(read.targets, targets.targets)


def test_a_front_of_fewer_points_than_candidates_is_refused(trained):
    workdir, experiment, tabled = trained
    tabled(0.9, 0.9)

    with pytest.raises(UsageError, match=r"search\.json has 1 operating points"):
        teach(workdir, experiment, 2, print)


def test_targets_of_other_weights_are_not_taken(trained):
    workdir, experiment, tabled = trained
    tabled(0.5, 0.9)
    other = Targets.begin(np.arange(1295), ("resolution:0.5", "resolution:1"), "old", "other")
    other.write(workdir / "targets.npz")

    with pytest.raises(UsageError, match="targets of other weights and training sets"):
        teach(workdir, experiment, 2, print)


@pytest.mark.slow
def test_images_are_taught_to_choose_and_choose_from_end_to_end(monkeypatch, tmp_path):
    def shortened(*args, **given):
        experiment = read(*args, **given)
        backbone, network = ResNet((1, 1, 1), 2), experiment.network
        if network.candidates:
            base = dataclasses.replace(network.base, backbone=backbone, side=12)
            network = dataclasses.replace(network, base=base, width=2)
        else:
            network = dataclasses.replace(network, backbone=backbone, side=12)
        phases = tuple(dataclasses.replace(phase, epochs=0.5) for phase in experiment.phases)
        return dataclasses.replace(experiment, network=network, phases=phases)

    def tabled(workdir, experiment, *rest):
        checkpoint = arms._read_done(workdir)["hash"]
        write_table(workdir, experiment.network, checkpoint, 30, np.linspace(0, 1, 27))
        return teach(workdir, experiment, *rest)

    read = arms.read
    monkeypatch.setattr(arms, "read", shortened)
    monkeypatch.setattr(arms, "teach", tabled)
    monkeypatch.setattr(Measures, "__call__", None)  # the table is complete
    runner = arms.Runner(tmp_path, lambda: False, lambda line: None)

    found = runner.find(EXPERIMENTS["resizable_adapt"]("small").arms["adapt"], 1)
    read_again = runner.find(EXPERIMENTS["resizable_adapt"]("small").arms["adapt"], 1)

    assert found.values["choice"].shape == (1, CANDIDATES, 1497)
    assert (found.of("choice", "adapt:1") == 0).all()
    assert set(np.unique(found.of("choice", MOST))) <= set(range(CANDIDATES))
    (own,) = found.taught
    assert (len(own.candidates), own.done) == (CANDIDATES, 270)
    np.testing.assert_array_equal(found.of("choice", MOST), read_again.of("choice", MOST))
