"""The experiments of resizable networks compare what they say, at equal operating points."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import arms, measured, reproduce
from benchmarks.arm import Arm, Found
from benchmarks.resizable import ALL, EXPERIMENTS, MEAN, POINTS
from benchmarks.resizable_arms import RESIZABLE, SHOWN, TRAININGS
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli.flags import read_config
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.elastic.doors import check_statistics
from jax_elastic.elastic.family import When
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.subnet import Subnet
from jax_elastic.training.phases import make_schedule, spans
from tests.warm import shapes_of

COSTS = {name: CostModel(TRAININGS[name].network, (12, 12, 1)) for name in ("fair", "input_only")}


def macs(name, points):
    costs = COSTS["input_only" if name == "input_only" else "fair"]
    return np.array([costs.cost(Subnet.parse(point)).full for point in points], float)


def made_up(arm, seed):
    """What an arm might give: more right answers at dearer points, the true costs."""
    costs = macs(arm.config.partition(":")[2], arm.subnets)
    chances = 0.3 + 0.5 * costs / macs("fair", [POINTS["fullest"]])
    right = np.random.default_rng(seed).random((3, len(costs), 40)) < chances[:, None]
    values = {"top1": right.astype(float), "macs": np.broadcast_to(costs[:, None], right.shape)}
    return Found((None,), values, arm.subnets)


def claims_of(name):
    experiment = EXPERIMENTS[name]("small")
    found = {arm: made_up(made, i) for i, (arm, made) in enumerate(experiment.arms.items())}
    return found, {claim.text: claim for claim in experiment.claims(found)}


def experiment_of(name):
    return read_config([f"--config=benchmarks/resizable_arms.py:{name}"], "")


@pytest.mark.parametrize(
    "name,training", [(name, own) for name, own in TRAININGS.items() if own.made is None]
)
def test_an_arm_reads_back_as_the_training_that_it_names(name, training):
    experiment, named = experiment_of(name)

    (phase,) = experiment.phases
    assert (experiment.network, phase.objective) == (training.network, training.objective)
    assert named == f"resizable_arms-{name}"
    assert spans(experiment.phases, 270)[-1].stop == round(8.4375 * training.epochs)


def test_switching_has_the_steps_and_the_rates_of_the_plain_arm():
    plain, aug, shared = (experiment_of(name)[0] for name in ("fullest", "aug", "aug_no_banks"))

    assert [phase.objective for phase in aug.phases] == ["fair", "target"]
    assert (shared.phases, shared.subnet) == (aug.phases, plain.subnet)
    assert (aug.network.shared_bn, shared.network.shared_bn) == (False, True)
    (alone,), (first, second) = (spans(own.phases, 270) for own in (plain, aug))
    assert (first.stop, second.stop) == (506, alone.stop)
    assert make_schedule(second)(0) == make_schedule(alone)(506)


def test_what_is_finetuned_starts_from_the_network_it_is_compared_with():
    made = EXPERIMENTS["resizable_nas"]("small").arms

    assert made["after"].start == made["before"].config
    assert made["after"].subnets == made["before"].subnets == ALL
    experiment, _ = experiment_of("nas")
    assert experiment.subnet == POINTS["falling"]
    (phase,) = experiment.phases
    assert (phase.finetune, phase.epochs, phase.learning_rate) == (True, 15, 0.01)


@pytest.mark.parametrize("name", SHOWN)
def test_an_individual_network_is_trained_at_its_own_point_alone(name):
    training = TRAININGS[name]
    when = When(0, 0.0, "base", 0, 0.0, 1, training.objective)

    draws = training.network.draws(np.random.default_rng(0), when)

    assert [draw.subnet for draw in draws] == [SHOWN[name]]
    (own,) = EXPERIMENTS["resizable_sharing"]("small").arms[name].subnets
    assert own == str(SHOWN[name])


def test_every_stage_has_a_resize_that_changes_what_the_points_cost():
    one_smaller = [(0.5, 1, 1), (1, 0.5, 1), (1, 1, 0.5)]

    costs = macs("fair", [str(Subnet("resolution", scales)) for scales in one_smaller])

    assert (costs < 0.95 * macs("fair", [POINTS["fullest"]])).all()


def test_resizing_the_image_costs_as_much_as_resizing_all_maps_up_to_the_stem():
    scales = RESIZABLE.scales

    maps = macs("fair", [f"resolution:{s},{s},{s}" for s in scales])
    image = macs("input_only", [f"resolution:{s}" for s in scales])

    assert maps == pytest.approx(image, rel=0.07)
    assert maps[-1] == image[-1]


@pytest.mark.parametrize(
    "name,judged",
    [
        (
            "resizable_sharing",
            [f"{name}: sub-network, twice the steps, less own > 0" for name in POINTS],
        ),
        ("resizable_fair", [f"{MEAN}: the first less the second > 0"]),
        (
            "resizable_banks",
            [f"{place}: the first less the second > 0" for place in ("cheapest", "fullest", MEAN)],
        ),
        (
            "resizable_plain",
            [
                f"{place}: the first less the second > 0"
                for place in ("falling", "rising", "cheapest", "mean of the other 26")
            ],
        ),
        ("resizable_input", []),
        (
            "resizable_nas",
            ["falling: after less before > 0", "mean of the other 26: before less after > 0"],
        ),
        (
            "resizable_aug",
            [
                "switched less plain > 0",
                "switched less switched, shared BN > 0",
                "switched, shared BN less plain > 0",
            ],
        ),
    ],
)
def test_only_what_the_paper_claims_is_judged(name, judged):
    _, claims = claims_of(name)

    rows = [claim.row() for claim in claims.values()]

    assert [row["claim"] for row in rows if row["verdict"] != "measured"] == judged
    # Costs are the same for all images, up to the rounding of their mean.
    assert all(row["low"] <= row["ours"] + 1e-9 <= row["high"] + 2e-9 for row in rows)


def test_a_sub_network_is_compared_with_its_own_individual_one():
    found, claims = claims_of("resizable_sharing")

    for name, point in POINTS.items():
        own = 100 * found[name].values["top1"].mean()
        twice, shared = (
            100 * found[arm].of("top1", point).mean() for arm in ("fair_twice", "fair")
        )
        less = claims[f"{name}: sub-network, twice the steps, less own > 0"].values.mean()
        assert less == pytest.approx(twice - own)
        less = claims[f"{name}: sub-network less own"].values.mean()
        assert less == pytest.approx(shared - own)


def test_finetuning_gains_at_its_point_and_costs_the_mean_of_the_others():
    found, claims = claims_of("resizable_nas")
    before, after = (100 * found[name].values["top1"] for name in ("before", "after"))
    place = ALL.index(POINTS["falling"])

    gain = claims["falling: after less before > 0"].values
    loss = claims["mean of the other 26: before less after > 0"].values

    np.testing.assert_allclose(gain, after[:, place] - before[:, place])
    others = np.arange(27) != place
    np.testing.assert_allclose(loss, (before - after)[:, others].mean(1))


def test_switching_is_compared_at_the_fullest_point():
    found, claims = claims_of("resizable_aug")

    less = claims["switched less plain > 0"]

    aug, plain = (100 * found[name].values["top1"][:, 0] for name in ("aug", "fullest"))
    np.testing.assert_allclose(less.values, aug - plain)
    assert less.paper == pytest.approx(2.4)


def test_the_mean_is_over_all_points_and_keeps_seeds_and_images():
    found, claims = claims_of("resizable_banks")

    values = claims[f"{MEAN}: top-1, shared BN"].values

    every = found["shared_bn"].values["top1"]
    assert every.shape == (3, 27, 40)
    np.testing.assert_allclose(values, 100 * every.mean(1))


def test_the_costs_that_are_shown_are_those_of_the_points():
    _, claims = claims_of("resizable_sharing")

    share = claims[f"cheapest, {POINTS['cheapest']}: MACs, of the fullest's"].values.mean()

    assert share == pytest.approx(np.divide(*macs("fair", [ALL[0], ALL[-1]])))


def test_arms_of_several_experiments_are_the_same_and_so_trained_once():
    made = [EXPERIMENTS[name]("small").arms for name in EXPERIMENTS]

    assert len({arms["fair"] for arms in made if "fair" in arms}) == 1
    sharing, nas = (EXPERIMENTS[f"resizable_{name}"]("small").arms for name in ("sharing", "nas"))
    assert (nas["before"], nas["own"]) == (sharing["fair_twice"], sharing["falling"])


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """`evaluate` of an arm, of a small network that only its fullest point has statistics of."""
    network = Resizable(ResNet((1,), width=2), scales=(0.5, 1.0), side=8)
    experiment = dataclasses.replace(experiment_of("fair")[0], network=network, data=DataConfig())

    def leaf(path, a):
        own = [0, 1] if path[-1].key == "count" and a.shape else 1
        return jnp.full(a.shape, jnp.array(own), a.dtype)

    variables = jax.tree_util.tree_map_with_path(leaf, shapes_of(network, (8, 8, 1)))
    monkeypatch.setattr(measured, "load_variables", lambda workdir, experiment: (variables, {}))
    return lambda arm: measured.evaluate(arm, experiment, tmp_path)


TINY_POINTS = ("resolution:1", "resolution:0.5")


def test_an_arm_of_points_without_statistics_is_refused(tiny):
    with pytest.raises(UsageError, match="never estimated"):
        tiny(Arm("any", subnets=TINY_POINTS))


def test_an_arm_gives_a_row_for_each_of_its_points_in_its_own_order(tiny):
    found = tiny(Arm("any", subnets=TINY_POINTS, bank_of="resolution:1"))

    assert found["top1"].shape == (2, 359)
    full, cheap = found["macs"].mean(1)
    assert full > 2 * cheap


def test_a_recalibrated_arm_has_each_point_estimated_for_itself_on_all_training_images(
    tiny, monkeypatch
):
    seen = []

    def recorded(network, variables, subnet, images, data, batch_size):
        seen.append((str(subnet), images.shape, batch_size))
        check_statistics(network, variables, subnet)  # what is missing was borrowed before
        return variables

    monkeypatch.setattr(measured, "recalibrate", recorded)

    found = tiny(Arm("any", subnets=TINY_POINTS, bank_of="resolution:1", recalibrated=True))

    size = len(load(DataConfig(), "train"))
    assert seen == [(point, (size, 8, 8, 1), size) for point in TINY_POINTS]
    assert found["macs"].shape == (2, 359)


def test_another_scale_is_refused():
    with pytest.raises(UsageError, match="resizable networks have no scale 'full'"):
        reproduce.main(["resizable_banks", "--scale=full", "--compilation_cache="])


@pytest.mark.slow
def test_what_is_finetuned_is_trained_and_evaluated_from_end_to_end(monkeypatch, tmp_path):
    def shortened(*args, **given):
        experiment = read(*args, **given)
        network = dataclasses.replace(experiment.network, backbone=ResNet((1, 1, 1), 2), side=12)
        phases = tuple(dataclasses.replace(phase, epochs=0.25) for phase in experiment.phases)
        return dataclasses.replace(experiment, network=network, phases=phases, form="host")

    read = arms.read
    monkeypatch.setattr(arms, "read", shortened)
    runner = arms.Runner(tmp_path, lambda: False, lambda line: None)
    made = EXPERIMENTS["resizable_nas"]("small").arms
    points = (POINTS["falling"],)

    before, after = (
        runner.find(dataclasses.replace(made[name], subnets=points), 1)
        for name in ("before", "after")
    )

    assert before.values["top1"].shape == after.values["top1"].shape == (1, 1, 1497)
    np.testing.assert_array_equal(before.values["macs"], after.values["macs"])
