"""`train`: trains from a config, or goes on where the workdir stands."""

from pathlib import Path

import jax
from absl import flags

from jax_elastic.cli.flags import CONFIG_HELP, parse, read_config, split_config
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.cli.processes import define as define_processes
from jax_elastic.cli.processes import join
from jax_elastic.data.datasets import load
from jax_elastic.elastic.family import Variables
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.loop import train
from jax_elastic.training.processes import is_first, say, silent
from jax_elastic.training.stop import on_sigterm
from jax_elastic.training.validation import SCORE, Validate
from jax_elastic.training.workdir import claim

DEFAULT_CONFIG = "configs/urnet_digits.py"
ABOUT = f"""\
Trains a network; started again with the same workdir it goes on from the newest checkpoint.
SIGTERM saves a checkpoint first.
{CONFIG_HELP}
without --config: {DEFAULT_CONFIG}"""


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""

    def define(values: flags.FlagValues) -> None:
        flags.DEFINE_string(
            "workdir", None, "where the run lives; runs/CONFIG by default", flag_values=values
        )
        define_processes(values)
        define_platform(values)

    config, others = split_config(argv)
    values = parse(others, define, ABOUT)
    experiment, name = read_config(config, DEFAULT_CONFIG)
    join(values)
    configure(values, experiment.deterministic)
    workdir = Path(values.workdir or Path("runs") / name)
    claim(workdir, experiment)
    validate = _validator(experiment)
    tell = say if is_first() else silent
    tell(f"{workdir}: on {_devices()}; compiling")
    with on_sigterm() as stop:
        train(experiment, workdir, validate, stop=stop)
    tell(f"trained: {workdir}; next: python eval.py --workdir={workdir}")


def _devices() -> str:
    """What a run is on, e.g. ``4 x cpu of 2 processes``."""
    devices, processes = jax.devices(), jax.process_count()
    of = f" of {processes} processes" if processes > 1 else ""
    return f"{len(devices)} x {devices[0].device_kind}{of}"


def _validator(experiment: Experiment) -> Validate | None:
    """Top-1 on the validation split per budget, its mean as score, and the usage achieved.

    None without a split.
    """
    if not experiment.data.validation:
        return None
    evaluator = Evaluator(
        experiment.network,
        load(experiment.data, "validation"),
        experiment.data,
        budgets=experiment.runtime.validation_budgets,
    )

    def validate(variables: Variables) -> dict[str, float]:
        rows = evaluator(variables).rows
        found = {SCORE: sum(row["top1"] for row in rows) / len(rows)}
        for row in rows:
            at = "" if row["asked"] is None else f"@{row['asked']:g}"
            found[f"top1{at}"] = row["top1"]
            if row["achieved"] is not None:
                found[f"usage{at}"] = row["achieved"]
        return found

    return validate
