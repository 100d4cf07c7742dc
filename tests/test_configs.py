"""Every config file, in every variant, is an experiment that can be written down and read back."""

import ast
import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from jax_elastic.cli.flags import read_config
from jax_elastic.elastic.family import When
from jax_elastic.elastic.urnet.variants import VARIANTS
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Subnet
from jax_elastic.training.experiment import from_config, to_config

FILES = sorted(Path("configs").glob("*.py"))


def anytime_kinds(widths: Iterable[int], blocks: Iterable[int] = ()) -> tuple[str, ...]:
    """The baselines of I-ResNeXt that are there."""
    shallow = [f"shallow_separate{n}" for n in blocks]
    return (*(f"thin{k}" for k in widths), *(["shallow_joint", *shallow] if shallow else []))


KINDS = tuple(VARIANTS)
RESIZABLE = ("rs", "naive", "shared_bn", "individual", "plain", "input_only")
RESIZED = ("resnet50", "mobilenet_v1", "mobilenet_v2", "shufflenet_v2", "resizablenet")
OWN_OR_SHARED = ("own_bn", "shared_bn")
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
    "resizable_cifar10": [[RESIZED, RESIZABLE]],
    "resizable_digits": [[("digits", "hard"), RESIZABLE]],
    "resizable_imagenet": [[RESIZED, RESIZABLE]],
    "resnet_cifar10": [[("32", "20", "56", "110"), ("he2016", "anytime")]],
    "resnext_cifar10": [[("29", "65")]],
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
        ("resizablenet", (240, 1024, 0.5, 3e-5, 0.1)),
    ],
)
def test_resizable_networks_train_twice_as_long_as_those_for_one_point(name, expected) -> None:
    config = "--config=configs/resizable_imagenet.py"
    one, every = (read_config([f"{config}:{name},{kind}"], "")[0] for kind in ("plain", "rs"))

    (alone,), (phase,) = one.phases, every.phases
    assert phase.epochs == 2 * alone.epochs
    assert phase.milestones == tuple(2 * epoch for epoch in alone.milestones)
    assert expected == (
        *(alone.epochs, alone.batch_size, alone.learning_rate),
        *(alone.weight_decay, alone.label_smoothing),
    )


@pytest.mark.parametrize("kind", ["individual", "plain"])
def test_a_network_for_one_point_trains_and_shows_that_one(kind: str) -> None:
    experiment, _ = read_config([f"--config=configs/resizable_digits.py:{kind}"], "")

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
