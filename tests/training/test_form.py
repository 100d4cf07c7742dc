"""What `auto` comes to: by the platform, the number of draws, and the space."""

import dataclasses

import jax
import pytest
from toy import Toy
from warm import SMALL

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load
from jax_elastic.elastic.anytime.iresnext import IResNeXt
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Space
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.feed import Feed
from jax_elastic.training.form import FEW, resolve
from jax_elastic.training.mesh import make_mesh
from jax_elastic.training.phases import Phase, spans

BOTH = Phase("base", 0.1, "both", 0.1, batch_size=16)
ONE_DRAW = dataclasses.replace(BOTH, objective="shallow")
FAIR = dataclasses.replace(BOTH, objective="fair")
TARGET = dataclasses.replace(BOTH, objective="target")
GATED = dataclasses.replace(BOTH, objective="gated")
RESIZABLE = Resizable(ResNet((1, 1, 1), 2), (0.5, 0.75, 1.0))


class Large(Toy):
    subnets = Space("depth", (tuple(range(1, FEW + 2)),))


class WithoutSwitch(Toy):
    forms = frozenset({"sliced", "host"})


@pytest.mark.parametrize(
    "network,phase,platform,form",
    [
        (Toy(), BOTH, "cpu", "scan_switch"),
        (IResNeXt(ResNeXt((1,), 4, 2, 2), 2), BOTH, "cpu", "scan_switch"),
        (Toy(), BOTH, "gpu", "host"),
        (Toy(), BOTH, "tpu", "host"),
        (IResNeXt(ResNeXt((1,), 4, 2, 2), 2), BOTH, "gpu", "sliced"),
        (Toy(), ONE_DRAW, "cpu", "sliced"),
        (SMALL, GATED, "cpu", "sliced"),
        (Large(), BOTH, "cpu", "host"),
        (WithoutSwitch(), BOTH, "cpu", "host"),
        (RESIZABLE, FAIR, "cpu", "scan_switch"),
        (RESIZABLE, FAIR, "gpu", "staged"),
        (RESIZABLE, dataclasses.replace(FAIR, accumulate=2), "gpu", "host"),
        (RESIZABLE, TARGET, "cpu", "sliced"),
    ],
)
def test_auto_switches_between_few_points_on_a_cpu_and_leaves_changing_draws_to_the_host(
    network, phase, platform, form
):
    assert resolve("auto", network, phase, platform) == form


@pytest.mark.parametrize("form", sorted(Toy.forms))
def test_a_form_that_is_asked_for_is_taken(form):
    assert resolve(form, Toy(), ONE_DRAW, "cpu") == resolve(form, Toy(), BOTH, "gpu") == form


@pytest.mark.parametrize("phase,stacked", [(BOTH, True), (ONE_DRAW, False)])
def test_a_dispatch_is_fed_what_the_form_of_its_phase_reads(phase, stacked):
    data = DataConfig()
    experiment = Experiment(network=Toy(), phases=(phase,), data=data)
    mesh = make_mesh(jax.devices()[:1])
    feed = Feed(experiment, load(data, "train"), mesh)
    (span,) = spans(experiment.phases, len(load(data, "train")))
    assert isinstance(feed.portion(span, 0).draws, tuple) != stacked


def test_segments_are_not_run_one_by_one_over_parts_of_a_batch():
    parts = dataclasses.replace(FAIR, accumulate=2)

    with pytest.raises(UsageError, match="accumulate 2"):
        Experiment(network=RESIZABLE, phases=(parts,), data=DataConfig(), form="staged")
