"""What is timed is what training runs; nothing is timed here."""

import dataclasses
import sys

import pytest

from benchmarks.dispatches import dispatches, on_a_ready_made_batch
from benchmarks.train_step import (
    RATIOS,
    form_name,
    main,
    peer_name,
    peer_ratios,
    resnet,
)
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli.flags import read_config
from jax_elastic.errors import UsageError


def tiny(experiment):
    network = dataclasses.replace(experiment.network, backbone=ResNet((1, 1), width=4))
    return dataclasses.replace(experiment, network=network)


@pytest.mark.parametrize(
    "make,phase,steps,devices",
    [
        pytest.param(dispatches, "gates", 1, 1, marks=pytest.mark.slow),
        (dispatches, "joint", 2, 1),
        pytest.param(dispatches, "joint", 2, 2, marks=pytest.mark.slow),
        (on_a_ready_made_batch, "joint", 2, 2),
    ],
)
def test_a_dispatch_of_a_phase_runs_again_and_again_without_compiling(
    make, phase, steps, devices, caplog
):
    experiment, _ = read_config(["--config=configs/urnet_digits.py"], "")
    once = make(tiny(experiment), phase, steps, devices)
    once()

    with caplog.at_level("DEBUG", logger="jax"):
        once()

    assert not [record for record in caplog.records if "Compiling" in record.message]


def test_the_bars_of_the_steps_stand_in_the_table():
    assert {ratio.name: ratio.most for ratio in RATIOS if ratio.most} == {
        "joint step": 1.15,
        "gates-only step": 0.65,
        "ResNet-20, gathers and augments": 1.03,
    }


def test_every_form_is_barred_by_the_peers_default_layout_and_shown_beside_the_other():
    ratios = peer_ratios((1, 2))

    for depth in (20, 32):
        for form in (form_name(depth, "canonical", 1), form_name(depth, "blocked", 2)):
            bars = {ratio.baseline: ratio.most for ratio in ratios if ratio.name == form}
            assert bars == {
                peer_name(depth, "NCHW"): 1.0,
                peer_name(depth, "channels-last"): None,
            }


def test_a_form_is_the_network_of_its_depth_with_its_convolution():
    backbone = resnet(32, "blocked").network.backbone

    assert backbone == dataclasses.replace(resnet(32).network.backbone, conv="blocked")
    assert backbone.num_blocks == 15


def test_a_peer_that_is_not_installed_is_one_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(UsageError, match=r"PyTorch is not installed; pip install -e '\.\[peer\]'"):
        main(["--peer=torch"])


def test_a_peer_of_the_cpu_is_not_compared_with_another_platform(monkeypatch):
    pytest.importorskip("torch")

    with pytest.raises(UsageError, match="--platform=gpu does not go with --peer"):
        main(["--peer=torch", "--platform=gpu"])
