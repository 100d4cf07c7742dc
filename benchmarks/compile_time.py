"""How long training waits for its compiler: `python -m benchmarks.compile_time [--rounds=3]`.

Measured is what the loop does before its first step: the call of the dispatch (8 steps, ResNet for
CIFAR, batch 128) that does no step, so tracing, lowering and compiling. `cold` is with an empty
directory of compiled programs, `warm` with the one that `cold` left. Each is a process of its own,
in turn; its imports, and the initialisation of the network, are not in the time.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks.command import run
from benchmarks.dispatches import prepare
from benchmarks.provenance import facts
from benchmarks.timing import Ratio, load
from benchmarks.train_step import STEPS, resnet
from jax_elastic.cli.flags import parse
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import Column, format_table
from jax_elastic.inference.timing import Floats
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.program import make_program

DEPTHS = (20, 110)
CACHES = ("cold", "warm")
MOST_SECONDS = {(110, "cold"): 10.0, (110, "warm"): 2.0}
MOST_RATIO = {"cold": 1.1}

COLUMNS = (
    Column("form", "what is compiled", left=True),
    Column("seconds", "seconds", "{:.1f}".format),
    Column("low", "25 %", "{:.1f}".format),
    Column("high", "75 %", "{:.1f}".format),
    Column("bar", "bar", "{:.0f}".format),
    Column("kept", "kept", lambda kept: "yes" if kept else "no"),
    Column("ratio", "deep / shallow", "{:.2f}".format),
    Column("ratio_bar", "bar", "{:.1f}".format),
    Column("ratio_kept", "kept", lambda kept: "yes" if kept else "no"),
    Column("rounds", "rounds", str),
)


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, __doc__ or "")
    configure(values)
    if values.depth:
        print(json.dumps(compile_seconds(resnet(values.depth))))
        return
    found = rows(measure(values.rounds, values.platform))
    shared = {"command": "python -m benchmarks.compile_time " + " ".join(argv), **facts(), **load()}
    write_json(values.json, "compile_times", [{**row, **shared} for row in found])
    print(format_table(found, COLUMNS))


def compile_seconds(experiment: Experiment) -> float:
    """Seconds that the first dispatch of phase `base` takes to do no step."""
    work = prepare(experiment, "base", STEPS)
    state = jax.block_until_ready(work.begin())
    begun = time.perf_counter()
    chunk = make_program(experiment, work.span, work.mesh)
    _, losses, _ = chunk(state, work.arrays, work.ids, work.draws, np.int32(0))
    losses.block_until_ready()
    return time.perf_counter() - begun


def measure(rounds: int, platform: str | None) -> dict[tuple[int, str], Floats]:
    """Seconds by depth and cache, (rounds,)."""
    seconds = {key: np.zeros(rounds) for key in itertools.product(DEPTHS, CACHES)}
    for i, depth in itertools.product(range(rounds), DEPTHS):
        with tempfile.TemporaryDirectory() as directory:
            for cache in CACHES:  # the second finds what the first left
                seconds[depth, cache][i] = in_a_process(depth, directory, platform)
    return seconds


def in_a_process(depth: int, directory: str, platform: str | None) -> float:
    """`compile_seconds` in a fresh process that keeps compiled programs in a directory."""
    command = [sys.executable, "-m", "benchmarks.compile_time", f"--depth={depth}"]
    command += [f"--compilation_cache={directory}"]
    command += [f"--platform={platform}"] if platform else []
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(json.loads(printed))


def rows(seconds: Mapping[tuple[int, str], Floats]) -> list[dict[str, Any]]:
    """A row per depth and cache; the deeper network's is also compared with the other's."""
    found = []
    shallow, deep = DEPTHS
    for cache, depth in itertools.product(CACHES, DEPTHS):
        times = seconds[depth, cache]
        low, middle, high = (float(q) for q in np.quantile(times, (0.25, 0.5, 0.75)))
        most = MOST_SECONDS.get((depth, cache))
        row = {
            "form": f"ResNet-{depth}, {cache}",
            "seconds": middle,
            "low": low,
            "high": high,
            "bar": most,
            "kept": None if most is None else middle <= most,
            "rounds": len(times),
        }
        if depth == deep:
            other = {"shallow": seconds[shallow, cache], "deep": times}
            ratio = Ratio("deep", "shallow", MOST_RATIO.get(cache)).row(other)
            row |= {f"ratio_{name}": ratio[name] for name in ("low", "high", "bar", "kept")}
            row["ratio"] = ratio["ratio"]
        found.append(row)
    return found


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("rounds", 3, "of everything", lower_bound=3, flag_values=values)
    flags.DEFINE_string(
        "json", "docs/results/compile_time.json", "rows go here", flag_values=values
    )
    flags.DEFINE_integer("depth", None, "compiles one network, prints seconds", flag_values=values)
    define_platform(values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
