"""Kills training at random moments: `python -m benchmarks.kills --kills=100`.

Law 6: a run that is killed and started again, as often as you like, ends with the bits of one that
was left alone. The run is small, but it has all that a checkpoint must keep: two phases, of which
one has Adam; a moving average; a best checkpoint. It saves after every step, so that most kills
come while something is being written. Where a run ends before enough kills have come, another one
is begun.
"""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from orbax.checkpoint.path import atomicity

from benchmarks.command import run
from benchmarks.provenance import facts
from jax_elastic.cli.flags import parse
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import Column, format_table
from jax_elastic.training.seal import SEAL

REPOSITORY = Path(__file__).resolve().parents[1]
VICTIM = (sys.executable, "-m", "benchmarks.victim")
STEP = re.compile(r"step (\d+)/")
EARLY = 4.0  # seconds from the start to an early kill, at most
LATE = 0.4  # time from the first step to another kill, at most, in times of what came before it
PATIENCE = 600.0  # seconds in which a process must get anywhere


@dataclasses.dataclass(frozen=True)
class Kill:
    """What a kill found.

    Attributes:
      step: the last that the process had told; None before its first one.
      save: whether a checkpoint was being written.
      seal: whether one was complete but not sealed yet, or partly deleted.
    """

    step: int | None
    save: bool
    seal: bool


@dataclasses.dataclass(frozen=True)
class Found:
    """What all kills came to.

    Attributes:
      kills: in order.
      whole: what the run told at its end that was left alone.
      ends: the same of the runs that were killed.
    """

    kills: tuple[Kill, ...]
    whole: str
    ends: tuple[str, ...]

    @property
    def identical(self) -> int:
        """How many runs ended as the whole one."""
        return self.ends.count(self.whole)

    def row(self) -> dict[str, Any]:
        """Of the table and the JSON file."""
        return {
            "kills": len(self.kills),
            "before_a_step": sum(kill.step is None for kill in self.kills),
            "amid_a_save": sum(kill.save for kill in self.kills),
            "before_a_seal": sum(kill.seal for kill in self.kills),
            "runs": len(self.ends),
            "identical": self.identical,
        }


COLUMNS = (
    Column("kills", "kills"),
    Column("before_a_step", "before a first step"),
    Column("amid_a_save", "amid a save"),
    Column("before_a_seal", "amid a seal or a deletion"),
    Column("runs", "runs"),
    Column("identical", "identical ends"),
)


def main(argv: list[str]) -> None:
    """Runs the command with its arguments; exits with 1 if a run ended otherwise."""
    jax.config.update("jax_platforms", "cpu")  # as the victims
    values = parse(argv, _define, __doc__ or "")
    root = Path(tempfile.mkdtemp(prefix="kills-"))
    found = kill_runs(VICTIM, values.kills, values.seed, root, root / "cache", report=print)
    command = f"python -m benchmarks.kills --kills={values.kills} --seed={values.seed}"
    rows = [{**found.row(), "command": command, **facts()}]
    write_json(values.json, "kills", rows)
    print(format_table(rows, COLUMNS))
    if found.identical < len(found.ends):
        print(f"the runs lie in {root}", file=sys.stderr)
        sys.exit(1)
    shutil.rmtree(root)


def kill_runs(
    command: Sequence[str],
    kills: int,
    seed: int,
    root: Path,
    cache: Path,
    early: float = EARLY,
    late: float = LATE,
    report: Callable[[str], None] = lambda line: None,
) -> Found:
    """Lets a program run once as it will, then kills it as often as asked.

    Args:
      command: the program; it is given a workdir, tells lines with ``step N/`` while it works, and
        at its end one that begins with ``final``.
      kills: how often; one in eight comes early, as a rule before a first step.
      seed: of the moments.
      root: a new directory for the workdirs.
      cache: directory of compiled programs.
      early: seconds from a process's start to an early kill, at most.
      late: time from its first step to another kill, at most, in times of what came before it: so
        that runs get as far on a busy machine.
      report: gets a line for each kill and each end.

    Raises:
      RuntimeError: the program failed by itself.
    """
    generator = np.random.default_rng(seed)
    whole = _finish(command, root / "whole", cache)
    report(f"left alone: {whole}")
    found: list[Kill] = []
    ends: list[str] = []
    while len(found) < kills:
        after_a_step = generator.random() > 1 / 8
        delay = generator.uniform(0, late if after_a_step else early)
        workdir = root / f"killed{len(ends)}"
        kill = _kill(command, workdir, cache, after_a_step, delay)
        if kill is None:
            ends.append(_final(workdir))
            report(f"      a run ended: {ends[-1]}")
        else:
            found.append(kill)
            report(f"{len(found):4}  {kill}")
    ends.append(_finish(command, root / f"killed{len(ends)}", cache))
    report(f"      the last run ended: {ends[-1]}")
    return Found(tuple(found), whole, tuple(ends))


def _kill(
    command: Sequence[str], workdir: Path, cache: Path, after_a_step: bool, delay: float
) -> Kill | None:
    """Kills a program at a moment, see `kill_runs`; None if it ended before."""
    unfinished, unsealed = _unfinished(workdir), _unsealed(workdir)
    begun = time.monotonic()
    with _started(command, workdir, cache) as process:
        if after_a_step:
            _wait_for_a_step(process, workdir)
            delay *= time.monotonic() - begun
        try:
            process.wait(delay)
            return None
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    steps = STEP.findall(_log(workdir).read_text())
    return Kill(
        step=int(steps[-1]) if steps else None,
        save=not _unfinished(workdir) <= unfinished,
        seal=not _unsealed(workdir) <= unsealed,
    )


def _finish(command: Sequence[str], workdir: Path, cache: Path) -> str:
    """Lets a program come to its end; what it told there."""
    with _started(command, workdir, cache) as process:
        process.wait(PATIENCE)
    return _final(workdir)


@contextmanager
def _started(
    command: Sequence[str], workdir: Path, cache: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the program, on one CPU device; ended when this is left."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    with (
        _log(workdir).open("wb") as log,
        subprocess.Popen(
            [*command, str(workdir)], cwd=REPOSITORY, env=environment, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def _wait_for_a_step(process: subprocess.Popen[bytes], workdir: Path) -> None:
    """Returns when the program told a step, or ended."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not STEP.search(_log(workdir).read_text()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no step in {PATIENCE:.0f} s:\n{_log(workdir).read_text()}")
        time.sleep(0.005)


def _log(workdir: Path) -> Path:
    """What the newest process of a workdir has told."""
    return workdir.with_suffix(".log")


def _final(workdir: Path) -> str:
    """What a program told at its end."""
    told = _log(workdir).read_text()
    found = re.findall(r"^final (.*)$", told, flags=re.MULTILINE)
    if not found:
        raise RuntimeError(f"the program failed by itself:\n{told[-2000:]}")
    return str(found[-1])


def _unfinished(workdir: Path) -> set[tuple[Path, int]]:
    """Directories of steps that were being written; the number tells new ones of a name apart."""
    return {(path, path.stat().st_ino) for path in workdir.glob(f"*/*{atomicity.TMP_DIR_SUFFIX}*")}


def _unsealed(workdir: Path) -> set[tuple[Path, int]]:
    """Steps that are complete by their name and have no seal."""
    steps = (path for path in workdir.glob("*/*") if path.name.isdecimal())
    return {(path, path.stat().st_ino) for path in steps if not (path / SEAL).exists()}


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("kills", 20, "how many", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("seed", 0, "of the moments", flag_values=values)
    flags.DEFINE_string("json", "docs/results/kills.json", "rows go here", flag_values=values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
