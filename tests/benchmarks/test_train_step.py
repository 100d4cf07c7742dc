"""What is timed is a real dispatch of a phase; nothing is timed here."""

import dataclasses

import pytest

from benchmarks.train_step import RATIOS, dispatches
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli.flags import read_config


@pytest.mark.parametrize("phase,steps", [("gates", 1), ("joint", 2)])
def test_a_dispatch_of_a_phase_runs_again_and_again_without_compiling(phase, steps, caplog):
    experiment, _ = read_config(["--config=configs/urnet_digits.py"], "")
    network = dataclasses.replace(experiment.network, backbone=ResNet((1, 1), width=4))
    once = dispatches(dataclasses.replace(experiment, network=network), phase, steps)
    once()

    with caplog.at_level("DEBUG", logger="jax"):
        once()

    assert not [record for record in caplog.records if "Compiling" in record.message]


def test_the_bars_of_the_steps_stand_in_the_table():
    assert {ratio.name: ratio.most for ratio in RATIOS if ratio.most} == {
        "joint step": 1.15,
        "gates-only step": 0.65,
    }
