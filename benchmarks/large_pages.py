"""What large pages of memory save a training step on a CPU: `python -m benchmarks.large_pages`.

A step asks the C library for all of its temporary memory anew, and the kernel hands it over when it
is first touched, page by page. With `GLIBC_TUNABLES=glibc.malloc.hugetlb=1`, which is read when a
process begins, glibc asks for pages of 2 MiB. So this command is two processes that do one step of
the same network in turn: a plain ResNeXt of 29 layers, trained as `benchmarks.anytime_step` does.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

from absl import flags

from benchmarks.anytime_step import BATCH, TRIANGULAR, experiment, plain_of
from benchmarks.command import run
from benchmarks.provenance import facts
from benchmarks.steps import ready
from benchmarks.timing import COLUMNS, Ratio, load, rows
from jax_elastic.cli.flags import parse
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.elastic.plain import Plain
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import format_table
from jax_elastic.inference.timing import interleaved

TUNABLES = "GLIBC_TUNABLES"
SMALL, LARGE = "pages of 4 KiB", "pages of 2 MiB"
SETTINGS = {SMALL: "", LARGE: "glibc.malloc.hugetlb=1"}
DONE = "done"


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, __doc__ or "")
    configure(values)
    if values.worker:
        work(values.batch_size)
        return
    workers = {name: start(argv, setting) for name, setting in SETTINGS.items()}
    try:
        for worker in workers.values():
            answer(worker)
        seconds = interleaved({n: step(worker) for n, worker in workers.items()}, values.rounds)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.communicate()
    told = {"batch": values.batch_size, "command": _command(argv), **facts(), **load()}
    found = rows([Ratio(SMALL, SMALL), Ratio(LARGE, SMALL)], seconds)
    write_json(values.json, "large_pages", [{**row, **told} for row in found])
    print(format_table(found, COLUMNS))


def start(argv: list[str], setting: str) -> "subprocess.Popen[str]":
    """A process that does a step for each line it is sent."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.large_pages", *argv, "--worker"],
        env={**os.environ, TUNABLES: setting},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def step(worker: "subprocess.Popen[str]") -> Callable[[], None]:
    """Has a worker do a step, and waits for it."""

    def once() -> None:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()
        answer(worker)

    return once


def answer(worker: "subprocess.Popen[str]") -> None:
    """Waits until a worker is done.

    Raises:
      UsageError: it ended instead.
    """
    assert worker.stdout is not None
    if worker.stdout.readline().strip() != DONE:
        raise UsageError("a worker ended early", next_step="its own error stands above")


def work(batch_size: int) -> None:
    """A step at the start, which compiles, and one for each line of standard input."""
    once = ready(experiment(Plain(plain_of(TRIANGULAR)), batch_size)).run
    say = partial(print, DONE, flush=True)
    once()
    say()
    for _ in sys.stdin:
        once()
        say()


def _command(argv: list[str]) -> str:
    return " ".join(["python -m benchmarks.large_pages", *argv])


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("rounds", 15, "of both", lower_bound=3, flag_values=values)
    flags.DEFINE_integer("batch_size", BATCH, "images", lower_bound=1, flag_values=values)
    flags.DEFINE_bool("worker", False, "for its own use", flag_values=values)
    flags.DEFINE_string("json", "docs/results/large_pages.json", "rows go here", flag_values=values)
    define_platform(values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
