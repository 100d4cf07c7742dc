"""Experiments: read from configs, written to configs, compared."""

import copy
import dataclasses
import json

import jax
import pytest

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.anytime.iresnext import IResNeXt
from jax_elastic.elastic.family import TRACED_FORMS
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Subnet
from jax_elastic.training.experiment import (
    Experiment,
    Runtime,
    check_same,
    from_config,
    to_config,
)
from jax_elastic.training.loop import train
from jax_elastic.training.phases import Phase

URNET = Experiment(
    network=URNet(ResNet((1, 1), 4), p=0.2),
    phases=(Phase("base", 2, "base", 0.1), Phase("gates", 0.5, "gated", 0.01, milestones=(0.2,))),
    data=DataConfig(pad=2, validation=0.2),
    seed=7,
    form="scan_switch",
    steps_per_dispatch=3,
    runtime=Runtime(log_every=5),
)
RESIZABLE = Experiment(
    network=Resizable(ResNet((1, 1), 2), (0.5, 1.0), side=8),
    phases=(Phase("train", 2, "target", 0.1),),
    data=DataConfig(),
)
POINT = "resolution:0.5,1"
AIMED = dataclasses.replace(RESIZABLE, subnet=POINT)
PLAIN = Experiment(network=Plain(), phases=(Phase("base", 2, "base", 0.1),), data=DataConfig())

CONFIG = {
    "schema": 1,
    "network": {"family": "urnet", "backbone": {"stage_sizes": [1, 1], "width": 4}},
    "phases": [{"name": "base", "epochs": 1, "objective": "base", "learning_rate": 0.1}],
    "data": {},
}


def changed(*path, value):
    """CONFIG with one value replaced or added."""
    config = copy.deepcopy(CONFIG)
    group = config
    for key in path[:-1]:
        group = group[key]
    group[path[-1]] = value
    return config


@pytest.mark.parametrize(
    "experiment", [URNET, PLAIN, RESIZABLE, AIMED], ids=["urnet", "plain", "open", "aimed"]
)
def test_an_experiment_survives_its_config_and_json(experiment):
    config = to_config(experiment)
    assert from_config(config) == experiment
    assert from_config(json.loads(json.dumps(config))) == experiment


def test_a_short_config_takes_every_default():
    expected = Experiment(
        network=URNet(ResNet((1, 1), 4)), phases=(Phase("base", 1, "base", 0.1),), data=DataConfig()
    )
    assert from_config(CONFIG) == expected


def test_reading_a_config_does_not_change_it():
    before = copy.deepcopy(CONFIG)
    from_config(CONFIG)
    assert before == CONFIG


def test_phases_keep_their_order():
    phases = tuple(dataclasses.replace(URNET.phases[0], name=name) for name in "zay")
    experiment = dataclasses.replace(URNET, phases=phases)
    assert [phase.name for phase in from_config(to_config(experiment)).phases] == ["z", "a", "y"]


@pytest.mark.parametrize(
    "path,value,message",
    [
        (["schema"], 2, "config has schema 2, newer than this version's 1; update jax_elastic"),
        (["schema"], None, "config has schema None; a number from 1 to 1"),
        (["schema"], True, "config has schema True; a number from 1 to 1"),
        (["schema"], 0, "config has schema 0; a number from 1 to 1"),
        (["network", "family"], "urnets", "config.network.family is 'urnets'; one of plain, urnet"),
        (["network"], 3, "config.network is 3; a group of keys"),
        (["phases"], 3, "config.phases is no list; a list of phases, each a group of keys"),
        (["phases"], [], "config.phases is empty; one phase or more"),
        (["phases", 0], 3, "config.phases.0 is 3; a group of keys"),
        (["phases", 0, "objective"], "gate", "objective 'gate' of phase 'base' is unknown"),
        (["phases", 0, "epoch"], 1, "did you mean config.phases.base.epochs?"),
        (["phases", 0, "optimizer"], "adamw", "one of 'sgd', 'adam'"),
        (["network", "beta"], "2", "config.network.beta is '2' (str)"),
        (["network", "backbone", "widht"], 4, "did you mean config.network.backbone.width?"),
        (["form"], "slice", "config.form is 'slice'; one of 'auto', 'sliced', 'scan_switch'"),
        (["seed"], -1, "config.seed -1 is out of range"),
        (["seeds"], 1, "did you mean config.seed?"),
        (["steps_per_dispatch"], 0, "config.steps_per_dispatch 0 is below 1"),
        (["runtime"], {"save_every": 0}, "config.runtime.save_every 0 is too small; 1 or more"),
        (["runtime"], {"validate_every": -1}, "config.runtime.validate_every -1 is too small"),
        (["profile_steps"], "5", "config.profile_steps is '5'; first:stop with 0 <= first < stop"),
    ],
    ids=lambda case: str(case)[:40],
)
def test_a_wrong_config_is_refused_by_name(path, value, message):
    with pytest.raises(UsageError) as error:
        from_config(changed(*path, value=value))
    assert message in str(error.value)


def test_a_config_from_before_a_setting_takes_its_default():
    config = to_config(PLAIN)
    later = ("init_from", "profile_steps", "subnet")
    config = {key: value for key, value in config.items() if key not in later}
    config["phases"] = [{k: v for k, v in p.items() if k != "pretrain"} for p in config["phases"]]
    assert from_config(config) == PLAIN


@pytest.mark.parametrize("key", ["schema", "network", "phases", "data"])
def test_a_config_without_a_needed_part_is_refused_by_name(key):
    config = {name: value for name, value in CONFIG.items() if name != key}
    with pytest.raises(UsageError, match=rf"config(\.| has ){key}"):
        from_config(config)


def test_the_point_of_a_run_aims_its_network_and_is_written_down_once():
    config = to_config(AIMED)

    assert AIMED.network.aim == Subnet.parse(POINT)
    assert (config["subnet"], config["network"]["target"]) == (POINT, [])


@pytest.mark.parametrize("subnet", ["", "resolution:.5,1.0"])
def test_a_config_from_before_subnet_whose_network_is_aimed_means_the_same(subnet):
    config = to_config(RESIZABLE)
    config["network"]["target"], config["subnet"] = [0.5, 1.0], subnet

    assert from_config(config) == AIMED
    check_same(from_config(config), AIMED, "runs/a")


@pytest.mark.parametrize(
    "experiment,subnet,message",
    [
        (AIMED, "resolution:1,1", "config.subnet is resolution:1,1, but config.network is itself"),
        (RESIZABLE, "resolution:1,.7", "operating point resolution:1,0.7 does not fit"),
        (RESIZABLE, "resolution:1;resolution:1", "'resolution:1;resolution:1' is not an operating"),
        (PLAIN, "full", "config.subnet is full, and this network cannot be trained for one point"),
    ],
)
def test_a_point_that_a_run_cannot_be_for_is_refused(experiment, subnet, message):
    with pytest.raises(UsageError) as error:
        dataclasses.replace(experiment, subnet=subnet)
    assert message in str(error.value)


def finetuned(*before, **fields):
    """A run that ends with finetuning the point of `AIMED`."""
    phases = (*before, Phase("finetune", 1, "target", 0.01, finetune=True))
    return dataclasses.replace(AIMED, phases=phases, **fields)


@pytest.mark.parametrize(
    "experiment",
    [
        AIMED,
        finetuned(Phase("train", 1, "fair", 0.1)),
        finetuned(init_from="runs/a"),
        finetuned(Phase("train", 1, "fair", 0.1, pretrain=True), init_from="runs/a"),
    ],
)
def test_a_run_that_knows_its_point_and_its_weights_is_complete(experiment):
    experiment.check_complete()


@pytest.mark.parametrize(
    "experiment,message",
    [
        (
            RESIZABLE,
            "phase 'train' trains one operating point, and config.subnet is empty; for example "
            "--config.subnet=resolution:1,1; jax-elastic search",
        ),
        (
            finetuned(),
            "phase 'finetune' finetunes, and there are no weights to start from; give the workdir "
            "of the run that trained them: --config.init_from=...",
        ),
    ],
)
def test_a_run_that_lacks_an_answer_is_refused_where_training_begins(experiment, message, tmp_path):
    with pytest.raises(UsageError) as error:
        train(experiment, tmp_path)
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_another_point_is_another_config():
    other = dataclasses.replace(RESIZABLE, subnet="resolution:1,1")
    with pytest.raises(UsageError, match=r"config\.subnet: '.*0\.5,1' -> '.*1,1'; choose"):
        check_same(AIMED, other, "runs/a")


@pytest.mark.parametrize("form", sorted(TRACED_FORMS))
def test_a_form_that_the_network_does_not_have_is_refused(form):
    expected = rf"support config\.form '{form}'; one of auto, host, scan_switch, sliced"
    with pytest.raises(UsageError, match=expected):
        dataclasses.replace(PLAIN, form=form)


def test_two_phases_of_one_name_are_refused():
    with pytest.raises(UsageError, match="phases has equal names: base, base"):
        dataclasses.replace(PLAIN, phases=PLAIN.phases * 2)


@pytest.mark.parametrize(
    "change",
    [
        {"runtime": Runtime(save_every=3, keep=9)},
        {"profile_steps": "10:15"},
        {"form": "auto"},  # comes to one form with `sliced`, which older runs have: one draw
        {"form": "sliced"},
    ],
    ids=str,
)
def test_a_run_may_go_on_with_what_does_not_change_its_result(change):
    old = dataclasses.replace(URNET, form="sliced")
    check_same(old, dataclasses.replace(old, **change), "runs/a")


def nested(form):
    network = IResNeXt(ResNeXt((1,), 4, 2, 2), 2)
    phases = (Phase("base", 2, "anytime", 0.1),)
    return Experiment(network=network, phases=phases, data=DataConfig(), form=form)


def test_a_run_may_go_on_under_the_name_of_the_form_that_auto_takes_here():
    check_same(nested("auto"), nested("scan_switch"), "runs/a")


def test_a_run_keeps_the_form_it_began_with_where_auto_takes_another():
    with pytest.raises(UsageError, match=r"differs in config\.form: 'sliced' -> 'auto';"):
        check_same(nested("sliced"), nested("auto"), "runs/a")


@pytest.mark.parametrize(
    "change,named",
    [
        ({"seed": 8}, "config.seed: 7 -> 8"),
        ({"network": URNet(ResNet((1, 1), 4), p=0.3)}, "config.network.p: 0.2 -> 0.3"),
        ({"network": Plain(), "phases": PLAIN.phases}, "config.network.family: 'urnet' -> 'plain'"),
        ({"data": DataConfig(pad=1, validation=0.2)}, "config.data.pad: 2 -> 1"),
        ({"steps_per_dispatch": 4}, "config.steps_per_dispatch: 3 -> 4"),
        ({"phases": URNET.phases[:1]}, "config.phases.gates: {"),
        ({"init_from": "runs/b"}, "config.init_from: '' -> 'runs/b'"),
    ],
    ids=lambda case: str(case)[:30],
)
def test_going_on_with_another_config_is_refused_and_the_difference_is_named(change, named):
    with pytest.raises(UsageError) as error:
        check_same(URNET, dataclasses.replace(URNET, **change), "runs/a")
    assert "workdir runs/a belongs to another config; it differs in " in str(error.value)
    assert named in str(error.value)
    assert "choose another --workdir, or delete that one" in str(error.value)


def test_phases_in_another_order_are_another_config():
    swapped = dataclasses.replace(URNET, phases=URNET.phases[::-1])
    with pytest.raises(UsageError, match=r"it differs in the order of config.phases; "):
        check_same(URNET, swapped, "runs/a")


@pytest.mark.parametrize(
    "field,value", [("log_every", 0), ("save_every", 0), ("validate_every", -1), ("keep", 0)]
)
def test_a_runtime_that_cannot_be_is_refused(field, value):
    with pytest.raises(UsageError, match=rf"config.runtime.{field} {value} is too small"):
        Runtime(**{field: value})


def sharing(**changes):
    """Two phases of one schedule of 10 epochs, of which the first has 6."""
    one = {"learning_rate": 0.1, "schedule": "cosine", "schedule_epochs": 10.0}
    return (
        Phase("fair", 6.0, "fair", **one | changes.get("fair", {})),
        Phase("target", 4.0, "target", **one | {"schedule_start": 6.0} | changes.get("target", {})),
    )


def test_a_phase_that_does_not_go_on_where_its_schedule_was_left_is_refused():
    first, second = sharing()
    message = (
        "phase 'target' starts at epoch 6 of a schedule that phase 'fair' leaves at epoch 3; "
        "schedule_start 3"
    )

    with pytest.raises(UsageError, match=message):
        dataclasses.replace(
            RESIZABLE, phases=(dataclasses.replace(first, epochs=3.0), second), subnet=POINT
        )


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fair": {"schedule_epochs": 6.0}},
        {"fair": {"schedule_start": 3.0}, "target": {"schedule_start": 0.0}},
        {"target": {"schedule_start": 6.0 + 1e-12}},
    ],
    ids=["one goes on", "another schedule", "begins anew", "rounded"],
)
def test_a_phase_goes_on_with_a_schedule_or_has_another(changes):
    phases = sharing(**changes)

    assert dataclasses.replace(RESIZABLE, phases=phases, subnet=POINT).phases == phases


def test_a_schedule_goes_on_behind_a_phase_that_has_no_part_in_it():
    first, second = sharing()
    between = Phase("between", 1.0, "target", 0.1)
    phases = (first, between, second)

    assert dataclasses.replace(RESIZABLE, phases=phases, subnet=POINT).phases == phases


@pytest.mark.parametrize(
    "subnet,objectives,cautious",
    [("", ["fair"], False), (POINT, ["fair"], True), (POINT, ["fair", "target"], False)],
    ids=["for all", "for one, trains all", "for one, trains it at last"],
)
def test_a_run_for_one_point_that_never_trains_it_alone_is_told_so(subnet, objectives, cautious):
    phases = tuple(Phase(name, 1.0, name, 0.1) for name in objectives)
    told = dataclasses.replace(RESIZABLE, phases=phases, subnet=subnet).caution

    assert told.startswith(f"config.subnet is {POINT}: it alone is validated") == cautious
    assert bool(told) == cautious


def test_what_is_to_be_said_of_a_run_is_said_before_it_begins(tmp_path):
    phases = (Phase("only", 1.0, "fair", 0.1),)
    cautious = dataclasses.replace(
        RESIZABLE, phases=phases, subnet=POINT, init_from=str(tmp_path / "none")
    )
    lines = []
    with pytest.raises(UsageError, match=r"config\.init_from.*is not a workdir"):
        train(cautious, tmp_path, None, jax.devices()[:1], lines.append)

    assert lines == [cautious.caution]
