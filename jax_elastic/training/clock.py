"""The clock of a run: how long it has trained, without compiling, validating and saving."""

import time


class Clock:
    """Runs while a dispatch is on its way, stands while anything else is done.

    Args:
      seconds: of training before this process, as a checkpoint kept them.
    """

    def __init__(self, seconds: float = 0.0):
        self._before = seconds
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """Training time so far, over all phases and processes."""
        running = 0.0 if self._since is None else time.monotonic() - self._since
        return self._before + running

    def run(self) -> None:
        """Goes on, if it stands."""
        if self._since is None:
            self._since = time.monotonic()

    def stand(self) -> None:
        """Stops, if it runs."""
        self._before, self._since = self.seconds, None
