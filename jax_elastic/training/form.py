"""Which form the steps of a phase take, where `config.form` leaves it open."""

from typing import Literal

import numpy as np

from jax_elastic.elastic.family import Family, Form, When
from jax_elastic.training.phases import Phase

FormChoice = Literal["auto", Form]
"""What a config may say: a form, or `auto`, which `resolve` turns into one."""
FEW = 16
"""Operating points that a switch is compiled for at most without being asked for it."""


def resolve(choice: FormChoice, network: Family, phase: Phase, platform: str) -> Form:
    """The form of a phase's steps.

    A function of its arguments alone, so that a restarted run takes the form it began with.

    Args:
      choice: a form, which is taken, or `auto`: on CPUs `scan_switch` for several draws of a small
        space, which was measured to be quicker there in less memory; elsewhere `sliced`, which
        asks a device for no choice (docs/training.md).
      network: whose draws they are.
      phase: its first step says how many draws there are.
      platform: of the devices: `cpu`, `gpu` or `tpu`.
    """
    if choice != "auto":
        return choice
    first = When(0, 0.0, phase.name, 0, 0.0, 1, phase.objective)
    several = len(network.draws(np.random.default_rng(0), first)) > 1
    switches = "scan_switch" in network.forms and len(network.subnets) <= FEW
    return "scan_switch" if platform == "cpu" and several and switches else "sliced"
