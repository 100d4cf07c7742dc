"""Runs an experiment: `python -m benchmarks.reproduce EXPERIMENT [--scale=small] [--seeds=3]`.

Stopped at any moment (or by --minutes) and started again it goes on where it was. Its rows go to
docs/results/EXPERIMENT-SCALE.json.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import jax
from absl import flags

from benchmarks.arms import Runner
from benchmarks.claims import COLUMNS
from benchmarks.urnet import EXPERIMENTS
from jax_elastic.cli.flags import parse
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import format_table
from jax_elastic.training.stop import Stopped, on_sigterm

SCALES = ("small", "full")
RESULTS = Path("docs/results")


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    names = [argument for argument in argv if not argument.startswith("-")]
    values = parse([a for a in argv if a.startswith("-")], _define, _about())
    if len(names) != 1 or names[0] not in EXPERIMENTS:
        raise UsageError(f"experiment {' '.join(names)!r}", "one of " + ", ".join(EXPERIMENTS))
    configure(values)
    name, scale = names[0], values.scale
    experiment = EXPERIMENTS[name](scale)
    deadline = time.monotonic() + 60 * values.minutes
    commit = _commit()
    with on_sigterm() as told:
        runner = Runner(
            Path(values.root) / scale,
            stop=lambda: told() or time.monotonic() > deadline,
            report=lambda line: print(line, flush=True),
        )
        found = {arm: runner.find(made, values.seeds) for arm, made in experiment.arms.items()}
    shared = {
        "experiment": name,
        "scale": scale,
        "command": f"python -m benchmarks.reproduce {name} --scale={scale} --seeds={values.seeds}",
        "commit": commit,
        "device": _device(),
        "hours": round(sum(arm.seconds for arm in found.values()) / 3600, 3),
    }
    rows = [{**claim.row(), **shared} for claim in experiment.claims(found)]
    path = Path(values.results) / f"{name}-{scale}.json"
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
    flags.DEFINE_string("results", str(RESULTS), "where the rows go", flag_values=values)
    define_platform(values)


def _about() -> str:
    lines = [f"  {name:17} {made('small').about}" for name, made in EXPERIMENTS.items()]
    return "\n".join([(__doc__ or "").strip(), "", *lines])


def _commit() -> str:
    """The commit that runs, marked where files differ from it."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return told.stdout.strip() or "unknown"


def _device() -> str:
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind}, {os.cpu_count()} CPU cores"


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on", file=sys.stderr)
        sys.exit(143)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
