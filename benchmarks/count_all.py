"""Seconds to count every operating point of a network: `python -m benchmarks.count_all`.

For each of `--configs` (separated by ;) the command `macs --all` runs as a process of its own, on
one core. The time is all that it takes: imports, counts, the table and the file of rows. By default
ResNet-50 at 6 scales in 4 stages (1,296 points) and MobileNetV1 at 6 in 5 (7,776).
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks.command import run
from benchmarks.provenance import facts
from benchmarks.timing import load
from jax_elastic.cli.flags import parse
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import read_json, write_json
from jax_elastic.evaluation.tables import Column, format_table

CONFIGS = ("configs/resizable_imagenet.py:resnet50", "configs/resizable_imagenet.py:mobilenet_v1")
MOST_SECONDS = 20.0

COLUMNS = (
    Column("config", "config", left=True),
    Column("points", "points", "{:,}".format),
    Column("seconds", "seconds", "{:.1f}".format),
    Column("low", "lowest", "{:.1f}".format),
    Column("high", "highest", "{:.1f}".format),
    Column("cpu_seconds", "of CPU", "{:.1f}".format),
    Column("bar", "bar", "{:.0f}".format),
    Column("kept", "kept", lambda kept: "yes" if kept else "no"),
    Column("rounds", "rounds"),
)


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, __doc__ or "")
    rows = [measure(config, values.rounds) for config in values.configs.split(";")]
    shared = {"command": "python -m benchmarks.count_all " + " ".join(argv), **facts(), **load()}
    write_json(values.json, "count_all", [{**row, **shared} for row in rows])
    if values.json != "-":
        print(format_table(rows, COLUMNS))


def measure(config: str, rounds: int) -> dict[str, Any]:
    """The row of a config: its `points`, the median, lowest and highest `seconds` of rounds, and
    `cpu_seconds`, the median of what they were at work, which a busy machine does not stretch.

    Raises:
      UsageError: the command refused it.
    """
    found = [count_once(config) for _ in range(rounds)]
    seconds, at_work, points = zip(*found, strict=True)
    middle = float(np.median(seconds))
    return {
        "config": config,
        "points": points[0],
        "seconds": middle,
        "low": min(seconds),
        "high": max(seconds),
        "cpu_seconds": float(np.median(at_work)),
        "bar": MOST_SECONDS,
        "kept": middle <= MOST_SECONDS,
        "rounds": rounds,
    }


def count_once(config: str) -> tuple[float, float, int]:
    """Counts all points of a config in a process of its own, on one core.

    Returns:
      Seconds it took, those of them at work, and the points it found.

    Raises:
      UsageError: the command refused it.
    """
    core = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "jax_elastic", "macs", f"--config={config}", "--all"]
        command = ["taskset", "--cpu-list", str(core), *command, f"--json={path}"]
        begun, worked = time.perf_counter(), _seconds_of_children()
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begun
        if ended.returncode:
            raise UsageError(f"counting {config} failed: {ended.stderr.strip().splitlines()[-1]}")
        return seconds, _seconds_of_children() - worked, len(read_json(path, "macs"))


def _seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("configs", ";".join(CONFIGS), "separated by ;", flag_values=values)
    flags.DEFINE_integer("rounds", 3, "of each", lower_bound=1, flag_values=values)
    flags.DEFINE_string("json", "docs/results/count_all.json", "rows go here", flag_values=values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
