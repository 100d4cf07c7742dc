"""`train`: trains from a config, or goes on where the workdir stands."""

from collections.abc import Sequence
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
from jax_elastic.evaluation.rows import Row
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
    experiment.check_complete()
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
    """What a validation finds: see `numbers_of`; None without a validation split."""
    if not experiment.data.validation:
        return None
    evaluator = Evaluator(
        experiment.network,
        load(experiment.data, "validation"),
        experiment.data,
        budgets=experiment.runtime.validation_budgets,
    )

    def validate(variables: Variables) -> dict[str, float]:
        return numbers_of(evaluator(variables).rows)

    return validate


def numbers_of(rows: Sequence[Row]) -> dict[str, float]:
    """Numbers for the metrics from the rows of a validation.

    Args:
      rows: of an `Evaluation`.

    Returns:
      The mean top-1 of all rows as score; top-1 of each, as ``top1@BUDGET``; the usage achieved, as
      ``usage@BUDGET``. Of several operating points, or label levels, the name tells which:
      ``top1[width:2]``, ``top1[width:2,superclass]``.
    """
    several = len({row["subnet"] for row in rows}) > 1
    found = {SCORE: sum(row["top1"] for row in rows) / len(rows)}
    for row in rows:
        point = [row["subnet"]] if several else []
        level = [row["level_name"]] if "level" in row else []
        budget = "" if row["asked"] is None else f"@{row['asked']:g}"
        found[f"top1{_told(point + level)}{budget}"] = row["top1"]
        if row["achieved"] is not None:
            found[f"usage{_told(point)}{budget}"] = row["achieved"]
    return found


def _told(names: Sequence[str]) -> str:
    return f"[{','.join(names)}]" if names else ""
