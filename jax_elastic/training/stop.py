"""How a run is stopped so that nothing is lost: a question it asks, and the answer of SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Stop = Callable[[], bool]


class Stopped(Exception):
    """Training was asked to stop and did, with a checkpoint of its last step on disk.

    Args:
      step: the last step done, counted over all phases.
    """

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}")
        self.step = step


@contextmanager
def on_sigterm() -> Iterator[Stop]:
    """While it is open, SIGTERM ends nothing: it makes the answer of what is yielded true.

    To be used in the main thread, the only one in which Python sets handlers.
    """
    received = threading.Event()
    old = signal.signal(signal.SIGTERM, lambda number, frame: received.set())
    try:
        yield received.is_set
    finally:
        # None is a handler that Python did not set and so cannot put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if old is None else old)
