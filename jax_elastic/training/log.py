"""What the loop says while it runs: metric rows, progress lines, and that a run diverged."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jax_elastic.errors import UsageError
from jax_elastic.training.clock import Clock
from jax_elastic.training.metrics import MetricsFile, means, progress_line
from jax_elastic.training.phases import Span


class NonFiniteLossError(UsageError):
    """Training diverged: a loss or the state is NaN or infinite.

    Unlike other errors of this kind it comes after work was done; the message says which
    checkpoint keeps it.
    """


def diverged(what: str, span: Span, good: int | None) -> NonFiniteLossError:
    """The error of a run whose numbers are not finite any more.

    Args:
      what: which number, at which step.
      span: the phase.
      good: the newest checkpoint's step, if any.
    """
    return NonFiniteLossError(
        f"{what}, phase {span.phase.name!r}",
        f"the last good checkpoint is step {good}" if good is not None else "no checkpoint",
        "lower the learning rate of that phase (in a new workdir), or look at its inputs",
    )


class Dispatch(NamedTuple):
    """The results of one dispatch, still on their way from the device.

    Attributes:
      step: where it ends.
      n: how many steps it did.
      losses: (k,), of which the first n count.
      sums: metric name -> (sum, count).
    """

    step: int
    n: int
    losses: Any
    sums: Any


class Log:
    """Reads the metrics of a dispatch after the next one has started, so nothing ever waits.

    Sums are added up until a row is `due`; the row is written when its last dispatch is read. It
    has `seconds`, the training time so far, and a speed since the row before.

    Args:
      metrics: gets the rows.
      report: gets the lines for the terminal.
      span: the phase that is trained.
      last: the last phase of the run, for the time to go.
      good: the newest checkpoint's step, for the error of a run that diverges.
      clock: of the run; who dispatches lets it run, `drain` makes it stand.
    """

    def __init__(
        self,
        metrics: MetricsFile,
        report: Callable[[str], None],
        span: Span,
        last: Span,
        good: Callable[[], int | None],
        clock: Clock,
    ):
        self._metrics, self._report = metrics, report
        self._span, self._last, self._good = span, last, good
        self._pending: tuple[Dispatch, bool] | None = None
        self._total: dict[str, tuple[float, float]] = {}
        self._steps = 0
        self._clock, self._seconds = clock, clock.seconds

    def dispatched(self, dispatch: Dispatch, due: bool) -> None:
        """Takes the results of a dispatch and reads those of the one before.

        Args:
          dispatch: the results.
          due: whether a row ends with it.
        """
        self._read()
        self._pending = dispatch, due

    def drain(self) -> None:
        """Reads everything there is, waiting for the device, and makes the clock stand."""
        self._read()
        self._clock.stand()

    def _read(self) -> None:
        if self._pending is None:
            return
        (step, n, device_losses, device_sums), due = self._pending
        self._pending = None
        losses, sums = jax.device_get((device_losses, device_sums))
        bad = np.flatnonzero(~np.isfinite(losses[:n]))
        if bad.size:
            what = f"the loss is {losses[bad[0]]} at step {step - n + bad[0]}"
            raise diverged(what, self._span, self._good())
        for name, (total, count) in sums.items():
            old = self._total.get(name, (0.0, 0.0))
            self._total[name] = (old[0] + total, old[1] + count)
        self._steps += n
        if due:
            self._write(step)

    def _write(self, step: int) -> None:
        span, last = self._span, self._last
        seconds = self._clock.seconds
        speed = self._steps / max(seconds - self._seconds, 1e-9)
        row = {
            "kind": "train",
            "step": step,
            "phase": span.phase.name,
            "epoch": span.when(step).epoch,
            "steps": self._steps,
            **means(self._total),
            "seconds": seconds,
            "images_per_second": speed * span.phase.batch_size,
            "seconds_to_go": (last.stop - step) / speed,
        }
        self._metrics.append(row)
        epochs = last.start_epoch + last.steps / last.steps_per_epoch
        self._report(progress_line(row, last.stop, epochs))
        self._total, self._steps, self._seconds = {}, 0, seconds
