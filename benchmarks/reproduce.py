"""Runs experiments: `python -m benchmarks.reproduce EXPERIMENT ... [--scale=small] [--seeds=3]`.

Stopped at any moment (or by --minutes, with exit code 75) and started again it goes on where it
was. Rows go to docs/results/EXPERIMENT-SCALE.json.
"""

import sys
import time
from pathlib import Path

from absl import flags

from benchmarks import anytime, resizable, resizable_adapt, sgad, sgad_gradients, urnet
from benchmarks.arms import Runner
from benchmarks.claims import COLUMNS
from benchmarks.command import run
from benchmarks.provenance import joined
from jax_elastic.cli.flags import parse_with_names
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import format_table
from jax_elastic.training.stop import Stop, on_sigterm

SCALES = ("small", "full")
EXPERIMENTS = {
    **urnet.EXPERIMENTS,
    **anytime.EXPERIMENTS,
    **resizable.EXPERIMENTS,
    **resizable_adapt.EXPERIMENTS,
    **sgad.EXPERIMENTS,
    **sgad_gradients.EXPERIMENTS,
}


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values, names = parse_with_names(argv, _define, _about(), "EXPERIMENT names")
    for name in names:
        if name not in EXPERIMENTS:
            raise UsageError(f"unknown experiment {name!r}", "one of " + ", ".join(EXPERIMENTS))
    configure(values)
    deadline = time.monotonic() + 60 * values.minutes
    with on_sigterm() as told:
        for name in names:
            reproduce(name, values, lambda: told() or time.monotonic() > deadline)


def reproduce(name: str, values: flags.FlagValues, stop: Stop) -> None:
    """Runs what is missing of one experiment, and writes and prints its rows."""
    experiment = EXPERIMENTS[name](values.scale)
    runner = Runner(Path(values.root) / values.scale, stop, lambda line: print(line, flush=True))
    found = {arm: runner.find(made, values.seeds) for arm, made in experiment.arms.items()}
    shared = {
        "experiment": name,
        "scale": values.scale,
        "command": f"python -m benchmarks.reproduce {name} "
        f"--scale={values.scale} --seeds={values.seeds}",
        "hours": round(sum(runner.seconds.values()) / 3600, 3),
        **joined(runner.facts.values()),
    }
    rows = [{**claim.row(), **shared} for claim in experiment.claims(found)]
    path = Path(values.results) / f"{name}-{values.scale}.json"
    write_json(path, "results", rows)
    print(f"{experiment.about}; {values.seeds} seeds")
    print(format_table(rows, COLUMNS))
    print(path)


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_enum("scale", "small", SCALES, "small: digits; full: CIFAR", flag_values=values)
    flags.DEFINE_integer("seeds", 3, "of every arm", lower_bound=2, flag_values=values)
    flags.DEFINE_float(
        "minutes", float("inf"), "stop after so long, to go on later", flag_values=values
    )
    flags.DEFINE_string("root", "runs/reproduce", "where the runs lie", flag_values=values)
    flags.DEFINE_string("results", "docs/results", "where the rows go", flag_values=values)
    define_platform(values)


def _about() -> str:
    lines = [f"  {name:17} {made('small').about}" for name, made in EXPERIMENTS.items()]
    return "\n".join([(__doc__ or "").strip(), "", *lines])


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
