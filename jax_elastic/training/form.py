"""Which form the steps of a phase take, where `config.form` leaves it open.

Where points combine choices, `staged` has the least to compile among the forms that ask the device
for no choice: its programs are pieces, which together are about one network for each choice of a
stage, and those of `host` are whole networks, one for each point. So it is taken also where pieces
outnumber points (`python -m benchmarks.resizable_step` tells what each form compiles).
"""

from typing import Literal

import numpy as np

from jax_elastic.elastic.abilities import Switching
from jax_elastic.elastic.family import Family, Form, When
from jax_elastic.training.phases import Phase

FormChoice = Literal["auto", Form]
"""What a config may say: a form, or `auto`, which `resolve` turns into one."""
FEW = 16
"""Operating points that a switch is compiled for at most without being asked for it."""
SOME = 8
"""Steps that are drawn to see whether their operating points differ."""


def resolve(choice: FormChoice, network: Family, phase: Phase, platform: str) -> Form:
    """The form of a phase's steps.

    A function of its arguments alone, so that a restarted run takes the form it began with.

    Args:
      choice: a form, which is taken, or `auto`: for several draws on CPUs `scan_switch` where the
        space is small, or of any size where a network switches by itself (see `Switching`), one
        program that takes no longer than `sliced`; elsewhere, where the draws differ from step to
        step, each set of which `sliced` would compile anew, `staged` if the network can and the
        phase takes its batches whole, else `host`; `sliced` for all others (docs/training.md).
      network: whose draws they are.
      phase: whose first steps are looked at.
      platform: of the devices: `cpu`, `gpu` or `tpu`.
    """
    if choice != "auto":
        return choice
    when = When(0, 0.0, phase.name, 0, 0.0, 1, phase.objective)
    steps = {
        tuple(draw.subnet for draw in network.draws(np.random.default_rng(seed), when))
        for seed in range(SOME)
    }
    if max(map(len, steps)) == 1:
        return "sliced"
    small = isinstance(network, Switching) or len(network.subnets) <= FEW
    if platform == "cpu" and "scan_switch" in network.forms and small:
        return "scan_switch"
    if len(steps) == 1:
        return "sliced"
    return "staged" if "staged" in network.forms and phase.accumulate == 1 else "host"
