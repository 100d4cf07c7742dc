"""What an arm's network gives with trained variables: its measures of every image."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.arm import Arm, Floats, Values
from benchmarks.corruption import CORRUPTIONS
from benchmarks.guidance import guidance
from jax_elastic.data.datasets import load
from jax_elastic.elastic.borrow import borrow_banks
from jax_elastic.elastic.family import Family, Variables
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.evaluation.gradients import read_gradients
from jax_elastic.inference.recalibrate import recalibrate
from jax_elastic.subnet import Subnet
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.workdir import METRICS, load_variables


def evaluate(arm: Arm, experiment: Experiment, workdir: Path) -> Values:
    """What the arm's network gives with a workdir's variables: measures of (budgets, images)."""
    variables, _ = load_variables(workdir, experiment)
    dataset = load(experiment.data, arm.split)
    if arm.images != "clean":
        dataset = CORRUPTIONS[arm.images](dataset)
    everything, parts = np.ones(len(dataset)), []
    for subnets, prepared in _prepared(arm, experiment, variables):
        evaluator = Evaluator(experiment.network, dataset, experiment.data, subnets, arm.budgets)
        found = evaluator(prepared)
        usage = [everything if opened is None else opened.mean(1) for opened in found.opened]
        part = {"top1": found.top1, "usage": usage, "macs": found.macs, "loss": found.loss}
        if experiment.network.candidates:
            # Where there is but one candidate, it is the cheapest.
            part["choice"] = [0 * everything if own is None else own[0] for own in found.choice]
        shares = [opened.mean(0) for opened in found.opened if opened is not None]
        if len(shares) == len(found.rows):
            part["kept"] = shares
        part |= guidance(experiment.network, prepared, dataset, experiment.data)
        parts.append(part)
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if experiment.runtime.gradients:
        values["gradient"] = _gradient(experiment.network, workdir)
    return values


def _gradient(network: Family, workdir: Path) -> Floats:
    """(1, blocks), in their order."""
    _, *after_stem = (segment.name for segment in network.segments(network.subnets.fullest))
    rows = MetricsFile(workdir / METRICS).rows()
    means = read_gradients(workdir.name, after_stem, rows).means
    # Heads have no convolutions, so nothing is told of them.
    return np.array([[means[name] for name in after_stem if name in means]])


def _prepared(
    arm: Arm, experiment: Experiment, variables: Variables
) -> Iterator[tuple[tuple[Subnet, ...], Variables]]:
    """Operating points that share their variables, with these."""
    network, subnets = experiment.network, tuple(Subnet.parse(text) for text in arm.subnets)
    if arm.bank_of:
        variables = borrow_banks(network, variables, Subnet.parse(arm.bank_of), subnets)
    if not arm.recalibrated:
        yield subnets, variables
        return
    images = load(experiment.data, "train").images
    for subnet in subnets:
        # Points share banks, so each has what is estimated for it alone; from all images at once,
        # which no batch size has a part in.
        estimated = recalibrate(
            network, variables, subnet, images, data=experiment.data, batch_size=len(images)
        )
        yield (subnet,), estimated
