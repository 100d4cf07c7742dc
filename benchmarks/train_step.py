"""Times of training steps, as ratios: `python -m benchmarks.train_step [--peer=torch]`.

Alone: the steps of URNet's phases against the plain network's (ResNet-32 for CIFAR, batch 128),
gathering and augmenting images against a ready-made batch (ResNet-20), and several steps per
dispatch against one (digits). With `--peer=torch`: the steps of ResNet-20 and ResNet-32 against
PyTorch's on the same cores, by implementation of the convolution and by the devices that share
the batch; `--cpu_devices` is how many at most, one per core if not given.
"""

import dataclasses
import importlib.util
import itertools
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import cast

import jax
from absl import flags

from benchmarks.command import run
from benchmarks.dispatches import Run, dispatches, on_a_ready_made_batch
from benchmarks.provenance import facts
from benchmarks.timing import COLUMNS, Ratio, load, repeated, rows
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli.flags import parse, read_config
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.elastic.plain import Plain
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import format_table
from jax_elastic.inference.timing import interleaved
from jax_elastic.training.experiment import Experiment

BATCH = 128
STEPS = 8  # of a dispatch
RESIDENT, READY_MADE = "ResNet-20, gathers and augments", "ResNet-20, a ready-made batch"
MANY, SINGLE = f"digits, 1 dispatch of {STEPS} steps", f"digits, {STEPS} dispatches of 1 step"

RATIOS: tuple[Ratio, ...] = (
    Ratio("plain step", "plain step"),
    Ratio("joint step", "plain step", most=1.15),
    Ratio("gates-only step", "plain step", most=0.65),
    Ratio(RESIDENT, READY_MADE, most=1.03),
    Ratio(MANY, SINGLE),
)

DEPTHS = (20, 32)
CONVOLUTIONS = ("canonical", "blocked")
LAYOUTS = ("NCHW", "channels-last")  # PyTorch's default, and ours


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, __doc__ or "")
    if values.peer:
        _for_peer(values)
    configure(values)
    ratios, timed, name = RATIOS, runs, "train_step"
    if values.peer:
        devices = sorted({1, len(jax.devices())})
        ratios, timed, name = peer_ratios(devices), partial(peer_runs, devices), "train_step_torch"
    found = rows(ratios, interleaved(timed(), values.rounds))
    shared = {"command": "python -m benchmarks.train_step " + " ".join(argv), **facts(), **load()}
    path = values.json or f"docs/results/{name}.json"
    write_json(path, "times", [{**row, **shared} for row in found])
    print(format_table(found, COLUMNS))


def runs() -> dict[str, Run]:
    """What is timed alone, by name."""
    # The paper's phases with gates have twice the base's batch.
    changes = [f"--config.phases.{name}.batch_size={BATCH}" for name in ("gates", "joint")]
    urnet, _ = read_config(["--config=configs/urnet_cifar10.py:32", *changes], "")
    plain, _ = read_config(["--config=configs/urnet_cifar10.py:32,base"], "")
    digits, _ = read_config(["--config=configs/urnet_digits.py"], "")
    return {
        "plain step": dispatches(plain, "base", 1),
        "joint step": dispatches(urnet, "joint", 1),
        "gates-only step": dispatches(urnet, "gates", 1),
        RESIDENT: dispatches(resnet(20), "base", STEPS),
        READY_MADE: on_a_ready_made_batch(resnet(20), "base", STEPS),
        MANY: dispatches(digits, "joint", STEPS),
        SINGLE: repeated(dispatches(digits, "joint", 1), STEPS),
    }


def resnet(depth: int, conv: str | None = None) -> Experiment:
    """The plain network of a depth, batch 128; `conv` in place of its own convolution."""
    experiment, _ = read_config([f"--config=configs/resnet_cifar10.py:{depth}"], "")
    network = cast(Plain, experiment.network)
    backbone = dataclasses.replace(network.backbone, conv=conv or network.backbone.conv)
    return dataclasses.replace(experiment, network=dataclasses.replace(network, backbone=backbone))


def peer_ratios(devices: Sequence[int]) -> tuple[Ratio, ...]:
    """Every form of our step against PyTorch's in both layouts."""
    found = []
    for depth in DEPTHS:
        default, same = (peer_name(depth, layout) for layout in LAYOUTS)
        for conv, count in itertools.product(CONVOLUTIONS, devices):
            ours = form_name(depth, conv, count)
            found += [Ratio(ours, default, most=1.0), Ratio(ours, same)]
        found.append(Ratio(same, default))
    return tuple(found)


def peer_runs(devices: Sequence[int]) -> dict[str, Run]:
    """What `peer_ratios` compares: each is as many steps as a dispatch has."""
    found: dict[str, Run] = {}
    for depth in DEPTHS:
        for layout in LAYOUTS:
            found[peer_name(depth, layout)] = repeated(peer_step(resnet(depth), layout), STEPS)
        for conv, count in itertools.product(CONVOLUTIONS, devices):
            form = dispatches(resnet(depth, conv), "base", STEPS, count)
            found[form_name(depth, conv, count)] = form
    return found


def peer_name(depth: int, layout: str) -> str:
    """What the peer's step is called in the table."""
    return f"ResNet-{depth}, PyTorch {layout}"


def form_name(depth: int, conv: str, devices: int) -> str:
    """What a form of our step is called in the table."""
    return f"ResNet-{depth}, {conv}, {devices} device{'s' * (devices > 1)}"


def peer_step(experiment: Experiment, layout: str) -> Run:
    """PyTorch's step of a plain network on a ready-made batch."""
    import torch  # the extra `peer`

    from benchmarks.peer_torch import Network, training_step

    torch.set_num_threads(cores())
    (phase,) = experiment.phases
    height, width, channels = experiment.data.image_shape
    images = torch.randn(phase.batch_size, channels, height, width)
    labels = torch.zeros(phase.batch_size, dtype=torch.int64)
    network = Network(cast(ResNet, cast(Plain, experiment.network).backbone), channels)
    return training_step(network, phase, images, labels, layout == "channels-last")


def cores() -> int:
    """How many cores this process may use: as many threads as XLA starts."""
    allowed = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _for_peer(values: flags.FlagValues) -> None:
    """Both on the CPU, on all its cores.

    Raises:
      UsageError: PyTorch is not installed, or another platform is asked for.
    """
    if importlib.util.find_spec("torch") is None:
        raise UsageError("PyTorch is not installed", next_step="pip install -e '.[peer]'")
    if values.platform not in (None, "cpu"):
        raise UsageError(f"--platform={values.platform} does not go with --peer", "cpu")
    values["platform"].value = "cpu"
    if values.cpu_devices is None:
        values["cpu_devices"].value = cores()


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("rounds", 15, "of everything", lower_bound=3, flag_values=values)
    flags.DEFINE_string("json", None, "rows go here, not to docs/results", flag_values=values)
    flags.DEFINE_enum("peer", None, ["torch"], "whom to compare with", flag_values=values)
    define_platform(values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
