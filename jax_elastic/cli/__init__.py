"""The command line: flags -> config -> one call into the package.

`python -m jax_elastic COMMAND`, the console script `jax-elastic`, `train.py` and `eval.py` all
end in `run`, the only place that turns a `UsageError` into one line and exit code 2.
"""

import importlib
import signal
import sys
from collections.abc import Sequence

from jax_elastic.errors import UsageError
from jax_elastic.training.stop import Stopped

COMMANDS = {
    "train": "train a network from a config, or go on with its workdir",
    "eval": "accuracy, usage and MACs of a trained network per budget or operating point",
    "levels": "the finest label level at which each operating point is accurate enough",
    "predict": "class, confidence and cost of each of your own images",
    "compare": "one table and one set of pictures from the evaluated workdirs of several runs",
    "latency": "what operating points and engines take on this device, and which keep a time",
    "search": "a table of all operating points or many, and the best within a limit",
    "recalibrate": "BN statistics of single operating points, estimated anew from training images",
    "targets": "which operating point suits each training image best, for a network that chooses",
    "macs": "what the operating points of a network cost, without training it",
}
"""Command -> what it does; each is the module `jax_elastic.cli.NAME_command`."""

GOES_ON = {
    "train": "; the same command goes on from the newest checkpoint",
    "search": "; the same command goes on from what its table has",
}
"""What is said where a command is interrupted that leaves something to go on from."""


def run(argv: Sequence[str]) -> int:
    """Runs ``[command, flag, ...]``; returns the exit code."""
    command = argv[0] if argv else "--help"
    try:
        if command in ("-h", "--help", "help"):
            print(_usage())
            return 0
        if command not in COMMANDS:
            raise UsageError(f"unknown command {command!r}", "one of " + ", ".join(COMMANDS))
        module = importlib.import_module(f"jax_elastic.cli.{command}_command")
        module.main(list(argv[1:]))
        return 0
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted" + GOES_ON.get(command, ""), file=sys.stderr)
        return 128 + signal.SIGINT
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on", file=sys.stderr)
        return 128 + signal.SIGTERM  # what a shell says of a process that SIGTERM ended


def _usage() -> str:
    lines = [f"  {name:11} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: jax-elastic COMMAND [--flag=value ...]",
            "",
            *lines,
            "",
            "COMMAND --help: its flags",
        ]
    )
