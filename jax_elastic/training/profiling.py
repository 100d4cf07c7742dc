"""A trace of some steps, for TensorBoard, XProf or Perfetto: ``--config.profile_steps=10:15``."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

import jax

from jax_elastic.errors import UsageError


def step_range(text: str) -> range:
    """The steps of ``first:stop``, counted over all phases; none where the text is empty.

    Raises:
      UsageError: not two integers with 0 <= first < stop.
    """
    if not text:
        return range(0)
    found = re.fullmatch(r"(\d+):(\d+)", text)
    steps = range(int(found[1]), int(found[2])) if found else range(0)
    if not steps:
        raise UsageError(
            f"config.profile_steps is {text!r}",
            "first:stop with 0 <= first < stop, for example 10:15",
        )
    return steps


class Profiler:
    """Writes a trace of some steps; a context manager, so that it is closed whatever happens.

    Args:
      steps: which; none for no trace.
      total: how many the run has.
      directory: gets the trace.
      report: is told where it lies.

    Raises:
      UsageError: all of the steps lie beyond the run's last.
    """

    def __init__(self, steps: range, total: int, directory: Path, report: Callable[[str], None]):
        if steps and steps.start >= total:
            raise UsageError(
                f"config.profile_steps {steps.start}:{steps.stop} is never reached",
                f"this run has {total} steps, from 0 to {total - 1}",
            )
        self._steps = range(steps.start, min(steps.stop, total))
        self._directory, self._report = directory, report
        self._tracing = False

    @property
    def borders(self) -> tuple[int, ...]:
        """The steps before which a dispatch has to end."""
        return (self._steps.start, self._steps.stop) if self._steps else ()

    def resumed(self, step: int) -> None:
        """Reports that there is nothing to trace where a run goes on behind the steps."""
        if self._steps and step >= self._steps.stop:
            self._report(f"no trace: the last of config.profile_steps was {self._steps[-1]}")

    def turns(self, step: int) -> bool:
        """Whether `turn` is due before this step."""
        return (step in self._steps) != self._tracing

    def turn(self) -> None:
        """Begins the trace or ends it; the device should have nothing to do."""
        if self._tracing:
            jax.profiler.stop_trace()
            self._report(f"the trace lies in {self._directory}")
        else:
            jax.profiler.start_trace(self._directory)
        self._tracing = not self._tracing

    def mark(self, step: int) -> AbstractContextManager[object]:
        """Marks a dispatch in the trace; `step` is its first."""
        return jax.profiler.StepTraceAnnotation("train", step_num=step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._tracing:
            self.turn()
