"""What every command of this folder shares: errors in one line, and exit codes."""

import signal
import sys
from collections.abc import Callable, Sequence

from jax_elastic.errors import UsageError
from jax_elastic.training.stop import Stopped

UNFINISHED = 75  # the conventional code of "try again": here, the same command goes on


def run(main: Callable[[list[str]], None], argv: Sequence[str]) -> int:
    """Calls a command with its arguments; returns its exit code."""
    try:
        main(list(argv))
        return 0
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on", file=sys.stderr)
        return UNFINISHED
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 128 + signal.SIGINT
