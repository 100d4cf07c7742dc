"""The configs of the anytime paper: its recipe, its networks, and what `macs` says they cost."""

import numpy as np
import pytest

from jax_elastic.backbones.isresnext import ISResNeXt as ISArchitecture
from jax_elastic.backbones.msdnet import MSDNet
from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.backbones.shallow import ShallowResNeXt
from jax_elastic.cli.flags import read_config
from jax_elastic.cli.macs_command import count
from jax_elastic.data.split import held_out
from jax_elastic.data.taxonomy import load_taxonomy
from jax_elastic.elastic.anytime.exits import Exits
from jax_elastic.elastic.anytime.iresnext import IResNeXt
from jax_elastic.elastic.anytime.isresnext import ISResNeXt
from jax_elastic.elastic.plain import Plain
from jax_elastic.errors import UsageError
from jax_elastic.training.phases import make_schedule, spans

IMAGENET = ISArchitecture((5,) * 4, 160, 30, 4, 5, classes=(1000,), stem="imagenet")
CUB = ISArchitecture((4,) * 4, 192, 36, 4, 6, classes=(200,), stem="imagenet")


def read(config):
    experiment, _ = read_config([f"--config=configs/{config}"], "")
    return experiment


# The networks whose costs tests/elastic/anytime and tests/backbones pin to the printed digit.
@pytest.mark.parametrize(
    "config,network",
    [
        ("iresnext_cifar10.py:29", IResNeXt(ResNeXt((3, 3, 3)))),
        ("iresnext_cifar10.py:65,shared_bn", IResNeXt(ResNeXt((7, 7, 7)), shared_bn=True)),
        ("iresnext_cifar100.py:65", IResNeXt(ResNeXt((7, 7, 7), classes=100))),
        ("iresnext_cifar10.py:thin3", Plain(ResNeXt((3, 3, 3), branches=3))),
        ("iresnext_cifar10.py:shallow_joint", Exits(ShallowResNeXt(ResNeXt((3, 3, 3))))),
        ("iresnext_cifar10.py:shallow_separate4", Plain(ResNeXt((3, 1)))),
        ("isresnext_cifar10.py", ISResNeXt(ISArchitecture())),
        ("isresnext_cifar100.py", ISResNeXt(ISArchitecture(classes=(100,)))),
        ("isresnext_cub.py", ISResNeXt(CUB)),
        ("isresnext_imagenet.py", ISResNeXt(IMAGENET)),
        ("resnext_cifar10.py:65", Plain(ResNeXt((7, 7, 7)))),
        ("msdnet_cifar10.py", Exits(MSDNet())),
        ("msdnet_cifar100.py", Exits(MSDNet(classes=(100,)))),
    ],
)
def test_the_network_is_the_papers(config, network):
    assert read(config).network == network


# The numbers of the paper, and what follows from its layers.
@pytest.mark.parametrize(
    "config,printed",
    [
        ("iresnext_cifar10.py:shallow_separate4", [23.3]),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("iresnext_cifar10.py:29", [7.8, 13.9, 19.9, 26.0, 32.0, 38.0, 44.1, 50.1]),
                ("iresnext_cifar10.py:65", [15.9, 30.0, 44.1, 58.2, 72.3, 86.4, 100.5, 114.6]),
                ("isresnext_cifar10.py", [13.0, 28.9, 47.8, 69.6, 94.4, 122.1]),
                ("isresnext_imagenet.py", [209.8, 467.8, 773.9, 1128.2, 1530.6]),
                ("isresnext_cub.py", [179.5, 397.5, 654.0, 949.1, 1282.8, 1654.9]),
                (
                    "iresnext_cifar10.py:shallow_joint",
                    [12.5, 17.9, 23.3, 28.6, 34.0, 39.4, 44.8, 50.1],
                ),
                ("iresnext_cifar10.py:thin5", [32.0]),
                ("resnext_cifar10.py:29", [50.1]),
                ("resnext_cifar10.py:65", [114.6]),
            )
        ),
    ],
)
def test_macs_prints_the_papers_costs(config, printed):
    rows = one_answer_each(config)

    assert [round(row["macs"] / 1e6, 1) for row in rows] == printed


def one_answer_each(config):
    """The rows that `macs` prints, but for that of the pass with all answers."""
    experiment = read(config)
    rows = count(experiment.network, experiment.data.image_shape)
    points = {str(subnet) for subnet in experiment.network.subnets}
    assert len(rows) == len(points) + len(experiment.network.further)
    return [row for row in rows if row["subnet"] in points]


@pytest.mark.slow
@pytest.mark.parametrize(
    "config,exits,first,last",
    [
        ("msdnet_cifar10.py", 10, 11_417_152, 73_112_344),
        ("msdnet_imagenet.py", 5, 552_311_296, 2_822_196_864),
    ],
)
def test_macs_prints_what_the_public_code_of_msdnet_costs(config, exits, first, last):
    rows = one_answer_each(config)

    assert (len(rows), rows[0]["macs"], rows[-1]["macs"]) == (exits, first, last)


@pytest.mark.parametrize(
    "config,batch_size,epochs,drops",
    [
        ("iresnext_cifar10.py:65", 64, 300, (150, 225)),
        ("iresnext_cifar10.py:29,thin1", 64, 300, (150, 225)),
        ("iresnext_cifar100.py", 64, 300, (150, 225)),
        ("isresnext_cifar100.py:hierarchical", 64, 300, (150, 225)),
        ("msdnet_cifar10.py", 64, 300, (150, 225)),
        ("resnet_cifar10.py:56,anytime", 64, 300, (150, 225)),
        ("isresnext_cub.py", 64, 150, (75, 112.5)),
        ("isresnext_imagenet.py", 96, 90, (30, 60)),
        ("msdnet_imagenet.py", 96, 90, (30, 60)),
    ],
)
def test_the_recipe_is_the_papers(config, batch_size, epochs, drops):
    size = 100 * batch_size  # so that an epoch has 100 steps
    (phase,) = read(config).phases
    (span,) = spans((phase,), size)
    schedule = make_schedule(span)

    steps = [0, *(100 * at + side for at in drops for side in (-1, 0)), span.stop - 1]
    rates = [float(schedule(int(step))) for step in steps]

    assert (phase.optimizer, phase.momentum, phase.nesterov) == ("sgd", 0.9, True)
    assert (phase.weight_decay, phase.decayed, phase.bn) == (1e-4, ".*", "batch")
    assert (phase.batch_size, span.stop) == (batch_size, 100 * epochs)
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)


@pytest.mark.parametrize(
    "config,images,held",
    [
        ("iresnext_cifar10.py", [5000] * 10, 5000),
        ("isresnext_cifar100.py", [500] * 100, 5000),
        ("isresnext_cub.py", [30] * 194 + [29] * 6, 1000),
    ],
)
def test_as_many_training_images_are_held_out_as_in_the_paper(config, images, held):
    labels = np.repeat(np.arange(len(images)), images)

    mask = held_out(labels, read(config).data.validation, np.arange(len(labels)))

    assert mask.sum() == held


@pytest.mark.parametrize("config", ["isresnext_imagenet.py", "msdnet_imagenet.py"])
def test_a_share_of_imagenet_is_held_out_that_is_some_50_000_images(config):
    assert read(config).data.validation * 1_281_167 == pytest.approx(50_000, rel=0.01)


@pytest.mark.parametrize(
    "config",
    [
        "anytime_digits.py:is,hierarchical",
        "anytime_digits.py:msdnet,hierarchical",
        "isresnext_cifar100.py:hierarchical",
        "isresnext_cub.py:hierarchical",
    ],
)
def test_a_hierarchical_network_has_the_levels_of_its_taxonomy(config):
    experiment = read(config)

    assert experiment.network.classes == load_taxonomy(experiment.data.taxonomy).counts
    assert len(experiment.network.classes) >= 2


@pytest.mark.parametrize("config", ["isresnext_cifar100.py", "isresnext_cub.py"])
def test_a_flat_network_differs_from_the_hierarchical_one_in_its_levels_alone(config):
    flat, levels = read(config), read(f"{config}:hierarchical")

    assert flat.network.classes == levels.network.classes[:1]
    assert flat.data.taxonomy == ""
    assert flat.phases == levels.phases


@pytest.mark.parametrize(
    "config,said",
    [
        ("anytime_digits.py:is,thin2", "thin2 is a variant of i; for example i,thin2"),
        ("anytime_digits.py:hierarchical", "i has one label level; for example is,hierarchical"),
        ("iresnext_cifar10.py:65,shallow_joint", "this network has no variant 'shallow_joint'"),
        ("isresnext_cifar10.py:65", "unknown variant '65'; there are none"),
    ],
)
def test_words_that_do_not_go_together_are_refused(config, said):
    with pytest.raises(UsageError) as error:
        read(config)

    assert said in str(error.value)
