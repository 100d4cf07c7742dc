"""Every config file, in every variant, is an experiment that can be written down and read back."""

import ast
import dataclasses
import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from jax_elastic.cli.flags import read_config
from jax_elastic.elastic.family import When
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.urnet.variants import VARIANTS
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Subnet
from jax_elastic.training.experiment import Experiment, from_config, to_config
from jax_elastic.training.phases import make_schedule, spans

FILES = sorted(Path("configs").glob("*.py"))


def anytime_kinds(widths: Iterable[int], blocks: Iterable[int] = ()) -> tuple[str, ...]:
    """The baselines of I-ResNeXt that are there."""
    shallow = [f"shallow_separate{n}" for n in blocks]
    return (*(f"thin{k}" for k in widths), *(["shallow_joint", *shallow] if shallow else []))


KINDS = tuple(VARIANTS)
RESIZABLE = (
    *("rs", "naive", "shared_bn", "input_only", "nas", "aug", "aug_no_banks"),
    *("individual", "plain", "cutout", "mixup"),
)
RESIZED = ("resnet50", "mobilenet_v1", "mobilenet_v2", "shufflenet_v2", "resizablenet")
OWN_OR_SHARED = ("own_bn", "shared_bn")
ABLATIONS = ("concave", "convex", "linear", "constant", "no_sgnet", "no_noise")
# Of each file products of words; several where not all words go together.
WORDS = {
    "anytime_digits": [
        [("i",), ("digits", "hard"), (*OWN_OR_SHARED, *anytime_kinds(range(1, 5), range(1, 5)))],
        [("is", "msdnet"), ("digits", "hard"), ("flat", "hierarchical")],
    ],
    "iresnext_cifar10": [
        [("29",), (*OWN_OR_SHARED, *anytime_kinds(range(1, 9), range(2, 10)))],
        [("65",), (*OWN_OR_SHARED, *anytime_kinds(range(1, 9)))],
    ],
    "iresnext_cifar100": [[("29", "65"), ("own_bn", "thin4")], [("29",), ("shallow_joint",)]],
    "isresnext_cifar10": [[]],
    "isresnext_cifar100": [[("flat", "hierarchical")]],
    "isresnext_cub": [[("flat", "hierarchical")]],
    "isresnext_imagenet": [[]],
    "msdnet_cifar10": [[]],
    "msdnet_cifar100": [[]],
    "msdnet_imagenet": [[]],
    "resizable_cifar10": [[RESIZED, RESIZABLE], [("resizablenet",), ("no_aug",)]],
    "resizable_digits": [[("digits", "hard"), RESIZABLE]],
    "resizable_imagenet": [[RESIZED, RESIZABLE], [("resizablenet",), ("no_aug",)]],
    "resnet_cifar10": [[("32", "20", "56", "110"), ("he2016", "anytime")]],
    "resnext_cifar10": [[("29", "65")]],
    "sgad_cifar10": [[("32", "110"), ("mf", "lf"), ABLATIONS], [("32", "110"), ("plain",)]],
    "sgad_cifar100": [[("32", "110"), ("mf", "lf", "plain")], [("32",), ("mf",), ("constant",)]],
    "sgad_digits": [
        [("digits", "hard"), ("mf", "lf"), ABLATIONS],
        [("digits", "hard"), ("plain",)],
    ],
    "urnet_digits": [[("digits", "hard"), KINDS]],
    "urnet_cifar10": [[("110", "32"), KINDS]],
    "urnet_cifar100": [[("32",), KINDS]],
    "urnet_imagenet": [[("resnet101", "resnet84", "resnet75", "resnet72", "resnet50"), KINDS]],
}
CASES = [
    (path, ",".join(words))
    for path in FILES
    for groups in WORDS[path.stem]
    for words in itertools.product(*groups)
]
URNETS = [path for path in FILES if KINDS in WORDS[path.stem][0]]


@pytest.mark.parametrize(("path", "variant"), CASES, ids=str)
def test_a_config_is_an_experiment_that_survives_being_written_down(
    path: Path, variant: str
) -> None:
    experiment, name = read_config([f"--config={path}:{variant}"], default="")

    assert from_config(json.loads(json.dumps(to_config(experiment)))) == experiment
    assert name == "-".join([path.stem, *filter(None, variant.split(","))])


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_config_opens_with_paper_command_hardware_and_what_to_expect(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))

    assert docstring is not None
    parts = ("Paper", "Command", "Hardware", "Expected")
    assert [part for part in parts if part not in docstring] == []


def resizable(config: str) -> Experiment:
    """The experiment of ``configs/resizable_FILE.py:WORDS``."""
    return read_config([f"--config=configs/resizable_{config}"], "")[0]


@pytest.mark.parametrize("path", URNETS, ids=str)
def test_the_elastic_network_and_its_base_share_the_backbone_and_the_data(path: Path) -> None:
    elastic, _ = read_config([f"--config={path}"], default="")
    base, _ = read_config([f"--config={path}:base"], default="")

    assert base.network.backbone == elastic.network.backbone  # type: ignore[attr-defined]
    assert base.data == elastic.data
    assert base.phases[0].learning_rate == elastic.phases[0].learning_rate


def test_the_papers_settings_stand_in_the_cifar_config() -> None:
    experiment, _ = read_config(["--config=configs/urnet_cifar10.py"], default="")

    base, gates, joint = experiment.phases
    assert experiment.network.backbone.num_blocks == 54  # type: ignore[attr-defined]
    assert (base.epochs, gates.epochs, joint.epochs) == (200, 100, 400)
    assert (gates.trainable, gates.bn, joint.bn) == ("/gate/", "running", "batch")
    assert {(p.learning_rate, p.final_learning_rate, p.batch_size) for p in (gates, joint)} == {
        (1e-3, 1e-5, 256)
    }


# Epochs, batch, rate at the start, decay and smoothing of a network for one point (R5).
@pytest.mark.parametrize(
    "name,expected",
    [
        ("resnet50", (100, 512, 0.2, 1e-4, 0)),
        ("mobilenet_v1", (240, 1024, 0.5, 4e-5, 0)),
        ("mobilenet_v2", (240, 1024, 0.5, 4e-5, 0)),
        ("shufflenet_v2", (240, 1024, 0.5, 4e-5, 0)),
        ("resizablenet", (480, 1024, 0.5, 3e-5, 0.1)),
    ],
)
def test_resizable_networks_train_twice_as_long_as_those_for_one_point(name, expected) -> None:
    one, every = (resizable(f"imagenet.py:{name},{kind}") for kind in ("plain", "rs"))

    (alone,), (phase,) = one.phases, every.phases
    # Of ResizableNet the paper has but one number of epochs.
    times = 1 if name == "resizablenet" else 2
    assert phase.epochs == times * alone.epochs
    assert phase.milestones == tuple(times * epoch for epoch in alone.milestones)
    assert expected == (
        *(alone.epochs, alone.batch_size, alone.learning_rate),
        *(alone.weight_decay, alone.label_smoothing),
    )


SWITCHES = {"resnet50": (60, 40), "mobilenet_v2": (144, 96), "resizablenet": (288, 192)}


@pytest.mark.parametrize("kind", ["aug", "aug_no_banks"])
@pytest.mark.parametrize("name", SWITCHES)
def test_switching_takes_the_epochs_and_the_learning_rates_of_the_plain_network(name, kind) -> None:
    plain, aug = (resizable(f"imagenet.py:{name},{kind}") for kind in ("plain", kind))
    (alone,), (first, second) = (spans(run.phases, 10_240) for run in (plain, aug))

    assert (first.phase.epochs, second.phase.epochs) == pytest.approx(SWITCHES[name])
    assert (first.phase.objective, second.phase.objective) == ("fair", "target")
    assert (aug.subnet, aug.network.shared_bn) == (plain.subnet, kind == "aug_no_banks")  # type: ignore[attr-defined]
    assert second.stop == alone.stop
    rates, joined = make_schedule(alone), make_schedule(second)
    for step in (0, 1, second.steps // 2, second.steps - 1):
        assert joined(step) == rates(first.steps + step)


def test_finetuning_has_the_papers_epochs_and_waits_for_a_point_and_weights() -> None:
    experiment = resizable("imagenet.py:resnet50,nas")

    (phase,) = experiment.phases
    assert (phase.epochs, phase.learning_rate, phase.schedule) == (15, 0.01, "cosine")
    assert (phase.final_learning_rate, phase.finetune, phase.batch_size) == (0, True, 512)
    with pytest.raises(UsageError, match=r"config\.subnet is empty"):
        experiment.check_complete()


@pytest.mark.parametrize(
    "path", ["digits.py:hard", "cifar10.py:resnet50", "imagenet.py:mobilenet_v1"]
)
def test_a_learner_chooses_on_the_network_that_was_trained_and_waits_for_its_weights(path) -> None:
    trained, chooses = (resizable(f"{path},{kind}") for kind in ("rs", "adapt"))

    assert chooses.network.base == trained.network  # type: ignore[attr-defined]
    assert chooses.data == trained.data
    (phase,) = chooses.phases
    assert (phase.trainable, phase.batch_size) == ("^learner/", trained.phases[0].batch_size)
    with pytest.raises(UsageError, match="phase 'learner' finetunes, and there are no weights"):
        chooses.check_complete()


@pytest.mark.parametrize(
    "path,side", [("digits.py:", 8), ("cifar10.py:", 32), ("imagenet.py:", 224)]
)
def test_augmentations_of_the_plain_network_change_nothing_but_its_data(path, side) -> None:
    plain, cutout, mixup = (resizable(path + kind) for kind in ("plain", "cutout", "mixup"))

    assert cutout == dataclasses.replace(plain, data=cutout.data)
    assert cutout.data == dataclasses.replace(plain.data, cutout=side // 2)
    assert mixup == dataclasses.replace(plain, data=dataclasses.replace(plain.data, mixup=0.2))


def test_resizablenet_is_trained_by_switching_where_nothing_else_is_said() -> None:
    assert resizable("imagenet.py:resizablenet") == resizable("imagenet.py:resizablenet,aug")
    assert resizable("imagenet.py:resizablenet").network.backbone.dropout == 0.5  # type: ignore[attr-defined]
    assert resizable("imagenet.py:") == resizable("imagenet.py:resnet50,rs")
    assert resizable("cifar10.py:resizablenet,no_aug") == resizable("cifar10.py:resizablenet,plain")


@pytest.mark.parametrize("config", ["digits.py:no_aug", "imagenet.py:mobilenet_v1,no_aug"])
def test_other_networks_without_switching_are_called_plain(config: str) -> None:
    with pytest.raises(UsageError, match=r"'no_aug' is that of resizablenet.* it is called plain"):
        resizable(config)


@pytest.mark.parametrize("kind", ["individual", "plain"])
def test_a_network_for_one_point_trains_and_shows_that_one(kind: str) -> None:
    experiment = resizable(f"digits.py:{kind}")

    network, (phase,) = experiment.network, experiment.phases
    draws = network.draws(np.random.default_rng(0), When(0, 0, "", 0, 0, 1, phase.objective))
    assert tuple(draw.subnet for draw in draws) == network.shown == (network.subnets.fullest,)


@pytest.mark.parametrize("flag", ["subnet=resolution:.5,.75,1", "network.target=0.5,0.75,1.0"])
def test_the_point_that_is_trained_alone_is_chosen_on_the_command_line(flag: str) -> None:
    config = "--config=configs/resizable_digits.py:individual"

    experiment, _ = read_config([config, f"--config.{flag}"], "")

    assert experiment.subnet == "resolution:0.5,0.75,1"
    assert experiment.network.shown == (Subnet("resolution", (0.5, 0.75, 1)),)


def test_two_flags_that_name_different_points_are_refused() -> None:
    both = ["--config.subnet=resolution:1,1,1", "--config.network.target=0.5,0.75,1.0"]

    with pytest.raises(UsageError, match=r"config.subnet is .*1,1,1, but .* at .*0.5,0.75,1;"):
        read_config(["--config=configs/resizable_digits.py", *both], "")


@pytest.mark.parametrize("variant", ["resnet50", "mobilenet_v1"])
def test_a_flag_cannot_change_the_kind_of_a_group_and_says_what_can(variant: str) -> None:
    flag = "--config.network.backbone.kind=mobilenetv2"

    with pytest.raises(UsageError, match=r"backbone.kind cannot .* name the variant that has it"):
        read_config([f"--config=configs/resizable_cifar10.py:{variant}", flag], "")


def sgad(config: str) -> Experiment:
    """The experiment of ``configs/sgad_FILE.py:WORDS``."""
    return read_config([f"--config=configs/sgad_{config}"], "")[0]


def test_sgad_is_trained_from_scratch_and_finetuned_as_the_paper_says() -> None:
    from_scratch, finetuned = (sgad(f"cifar10.py:110,{use}") for use in ("mf", "lf"))

    assert from_scratch.network.num_gates == 53  # type: ignore[attr-defined]
    (scratch,), (finetune,) = from_scratch.phases, finetuned.phases
    assert (scratch.epochs, scratch.batch_size, scratch.learning_rate) == (220, 128, 0.1)
    assert (scratch.milestones, scratch.weight_decay) == ((128, 160, 192), 1e-4)
    assert (finetune.epochs, finetune.learning_rate, finetune.finetune) == (100, 0.01, True)
    with pytest.raises(UsageError, match="phase 'finetune' finetunes, and there are no weights"):
        finetuned.check_complete()


@pytest.mark.parametrize(
    "config,mf,lf",
    [
        ("cifar10.py:32", 0.16, 0.6),
        ("cifar10.py:110", 0.15, 0.8),
        ("cifar100.py:32", 0.3, 0.38),
        ("cifar100.py:110", 0.07, 0.27),
    ],
)
def test_a_network_that_is_finetuned_differs_in_what_it_is_expected_to_drop(config, mf, lf) -> None:
    first, second = (sgad(f"{config},{use}") for use in ("mf", "lf"))

    assert first.network.p_max == mf  # type: ignore[attr-defined]
    assert second.network == dataclasses.replace(first.network, p_max=lf)  # type: ignore[type-var]
    assert second.data == first.data


@pytest.mark.parametrize("config", ["cifar10.py:32", "cifar100.py:110", "digits.py:hard"])
def test_the_plain_network_beside_sgad_has_its_backbone_data_and_recipe(config: str) -> None:
    ours, plain = sgad(config), sgad(f"{config},plain")

    assert plain.network == Plain(ours.network.backbone)  # type: ignore[attr-defined]
    assert plain.data == ours.data
    assert plain.phases == (dataclasses.replace(ours.phases[0], objective="base"),)


@pytest.mark.parametrize("ablation", ABLATIONS[1:])
def test_a_plain_network_has_no_ablation(ablation: str) -> None:
    message = (
        f"nothing that '{ablation}' could change; plain .*; leave '{ablation}' out, or take mf"
    )

    with pytest.raises(UsageError, match=message):
        sgad(f"cifar10.py:32,plain,{ablation}")
