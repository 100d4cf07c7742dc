"""Training steps that are timed against each other, and what compiling and holding them takes.

`compile` is what the first dispatch waits for its compiler, with an empty cache of programs. `temp`
is XLA's temporary memory, of the largest program where there are several. What programs hand from
one to the next is not in it but `held`: where a sub-network has a program of its own, its gradients
and the sum of those before; where each of its segments has, also what these keep for theirs.
"""

import copy
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.dispatches import Run, Work, prepare
from benchmarks.timing import COLUMNS, Ratio
from jax_elastic.evaluation.tables import Column
from jax_elastic.inference.timing import Floats, interleaved
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.host import HostChunk
from jax_elastic.training.program import make_program
from jax_elastic.training.staged import StagedGradients
from jax_elastic.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Case:
    """What is compared with each other, in the same rounds.

    Attributes:
      name: in the table.
      runs: name -> the networks that do a step each, one after the other.
      ratios: the rows.
    """

    name: str
    runs: Mapping[str, tuple[Experiment, ...]]
    ratios: tuple[Ratio, ...]


class Memory(NamedTuple):
    """What a step needs beside its state, in bytes.

    Attributes:
      temp: temporary memory of its largest program.
      held: what its programs leave for one another.
    """

    temp: int
    held: int


class Ready(NamedTuple):
    """A step that can be timed.

    Attributes:
      run: does it.
      compile_seconds: what the first dispatch waited for its compiler.
      memory: what it needs.
    """

    run: Run
    compile_seconds: float
    memory: Memory


def measure(case: Case, rounds: int) -> list[dict[str, Any]]:
    """A row for each ratio of a case: that of `Ratio.row`, and what its run took."""
    all_ready = {
        name: [ready(experiment) for experiment in experiments]
        for name, experiments in case.runs.items()
    }
    seconds = interleaved({name: in_turn(steps) for name, steps in all_ready.items()}, rounds)
    return [
        {
            "case": case.name,
            **ratio.row(seconds),
            **costs(seconds[ratio.name], all_ready[ratio.name]),
        }
        for ratio in case.ratios
    ]


def costs(seconds: Floats, steps: Sequence[Ready]) -> dict[str, float]:
    """What a run took: `seconds` (their median), `compile_seconds`, `temp_bytes`, `held_bytes`."""
    return {
        "seconds": float(np.median(seconds)),
        "compile_seconds": sum(step.compile_seconds for step in steps),
        "temp_bytes": max(step.memory.temp for step in steps),
        "held_bytes": max(step.memory.held for step in steps),
    }


def in_turn(steps: Sequence[Ready]) -> Callable[[], None]:
    """All of them, one after the other."""

    def run() -> None:
        for step in steps:
            step.run()

    return run


def ready(experiment: Experiment) -> Ready:
    """Compiles a dispatch of one step."""
    (phase,) = experiment.phases
    work = prepare(experiment, phase.name, 1)
    program: Any = make_program(experiment, work.span, work.mesh)
    held = [jax.block_until_ready(work.begin())]

    def dispatch(n: int) -> None:
        held[0], losses, _ = program(held[0], work.arrays, work.ids, work.draws, np.int32(n))
        losses.block_until_ready()

    # The first compiles all, and both do what such a call does beside.
    first, second = (_seconds(lambda: dispatch(0)) for _ in range(2))
    return Ready(lambda: dispatch(1), first - second, memory_of(program, held[0], work))


def memory_of(program: Any, state: TrainState, work: Work) -> Memory:
    """The memory of a dispatch; its programs, compiled before, are not compiled again."""
    if not isinstance(program, HostChunk):
        return _of_programs([program.lower(state, work.arrays, work.ids, work.draws, np.int32(0))])
    read = state._replace(opt_state=(), ema=())
    batch = program.batch(work.arrays, work.ids, np.int32(0), read)
    per_draw: Any = work.draws
    found = [
        _of_draw(program.gradients, read, batch, draw, np.int32(slot))
        for slot, draw in enumerate(per_draw[0])
    ]
    return Memory(max(own.temp for own in found), max(own.held for own in found))


def _of_draw(gradients: Any, read: TrainState, batch: Any, draw: Any, slot: Any) -> Memory:
    """That of one draw's programs, and the sum of the gradients before it."""
    if not isinstance(gradients, StagedGradients):
        own = _of_programs([gradients.lower(read, batch, (draw,), slot)])
        shapes = jax.eval_shape(gradients, read, batch, (draw,), slot)
        return Memory(own.temp, 2 * _bytes(shapes))
    forward: list[jax.stages.Lowered] = []
    backward: list[jax.stages.Lowered] = []
    noted = copy.copy(gradients)
    noted.forward = _noting(gradients.forward, forward)
    noted.backward = _noting(gradients.backward, backward)
    found = noted(read, batch, (draw,), slot)
    kept = _of_programs(forward)
    temp = max(kept.temp, _of_programs(backward).temp)
    return Memory(temp, kept.held + 2 * _bytes(found))


def _noting(jitted: Any, found: list[jax.stages.Lowered]) -> Any:
    """The same, which also notes the program of each call."""

    def call(*args: Any, **static: Any) -> Any:
        found.append(jitted.lower(*args, **static))
        return jitted(*args, **static)

    return call


def _of_programs(lowered: Sequence[jax.stages.Lowered]) -> Memory:
    """The largest one's temporary memory, and what all give that does not replace what they got."""
    analyses: list[Any] = [own.compile().memory_analysis() for own in lowered]
    given = (own.output_size_in_bytes - own.alias_size_in_bytes for own in analyses)
    temp = max(own.temp_size_in_bytes for own in analyses)
    return Memory(int(temp), int(sum(given)) if len(analyses) > 1 else 0)


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _seconds(run: Run) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _megabytes(count: float) -> str:
    return f"{count / 2**20:.0f}"


TABLE = (
    Column("case", "case", left=True),
    *COLUMNS,
    Column("seconds", "seconds", "{:.2f}".format),
    Column("compile_seconds", "compile s", "{:.1f}".format),
    Column("temp_bytes", "temp MiB", _megabytes),
    Column("held_bytes", "held MiB", _megabytes),
)
"""Of what it prints."""
