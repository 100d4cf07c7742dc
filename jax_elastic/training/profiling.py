"""A trace of some steps, for TensorBoard, XProf or Perfetto: ``--config.profile_steps=10:15``."""

import re
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
      directory: gets the trace.
    """

    def __init__(self, steps: range, directory: Path):
        self._steps, self._directory = steps, directory
        self._tracing = False

    @property
    def borders(self) -> tuple[int, ...]:
        """The steps before which a dispatch has to end."""
        return (self._steps.start, self._steps.stop) if self._steps else ()

    def turns(self, step: int) -> bool:
        """Whether `turn` is due before this step."""
        return (step in self._steps) != self._tracing

    def turn(self) -> None:
        """Begins the trace or ends it; the device should have nothing to do."""
        if self._tracing:
            jax.profiler.stop_trace()
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
