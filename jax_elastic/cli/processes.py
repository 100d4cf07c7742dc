"""The flags by which several processes join to train one network."""

import os
import socket
import time

import jax
from absl import flags

from jax_elastic.errors import UsageError

_PATIENCE = 300.0  # seconds, as long as JAX waits for the others


def define(values: flags.FlagValues) -> None:
    """Defines `--coordinator`, `--num_processes`, `--process_id` and `--distributed`."""
    flags.DEFINE_string(
        "coordinator",
        os.environ.get("JAX_COORDINATOR_ADDRESS"),
        "HOST:PORT of process 0, where several processes train together; each gets the same "
        "command, a workdir that all see, and its own --process_id",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "num_processes",
        _number("JAX_NUM_PROCESSES"),
        "how many they are",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "process_id",
        _number("JAX_PROCESS_ID"),
        "which of them this one is, from 0",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_bool(
        "distributed",
        False,
        "take all of that from the cluster: Cloud TPU pods, Slurm, Open MPI, Kubernetes",
        flag_values=values,
    )


def join(values: flags.FlagValues) -> None:
    """Joins the other processes, if there are any; before any computation.

    Raises:
      UsageError: some of the flags are missing or do not fit, or the others cannot be reached.
    """
    given = (values.coordinator, values.num_processes, values.process_id)
    if not values.distributed:
        if given == (None, None, None):
            return
        _check(*given)
    if values.process_id and values.coordinator:
        _reach(values.coordinator)
    try:
        jax.distributed.initialize(values.coordinator, values.num_processes, values.process_id)
    # What a cluster does not tell is a ValueError, a second call a RuntimeError.
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"the processes cannot join: {str(error).splitlines()[0]}",
            next_step="give --coordinator=HOST:PORT, --num_processes and --process_id",
        ) from error


def _check(coordinator: str | None, processes: int | None, process: int | None) -> None:
    if coordinator is None or processes is None or process is None:
        raise UsageError(
            "several processes need --coordinator=HOST:PORT, --num_processes and --process_id",
            next_step="give all three, or none of them to train in one process",
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        what = f"--coordinator={coordinator} is no HOST:PORT"
        raise UsageError(what, "for example 10.0.0.2:8476")
    if process >= processes:
        raise UsageError(
            f"--process_id={process} is too large", f"0 to {processes - 1}, of --num_processes"
        )


def _reach(coordinator: str) -> None:
    """Waits until process 0 listens. JAX would end this process without an error to catch.

    Raises:
      UsageError: nobody answers within `_PATIENCE` seconds.
    """
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise UsageError(
                    f"nobody answers at --coordinator={coordinator}: {error}",
                    next_step="start process 0 there, or give the address that it listens at",
                ) from error
        time.sleep(0.2)


def _number(variable: str) -> int | None:
    """A number of the environment; None where it is not set."""
    text = os.environ.get(variable)
    if text is not None and not text.isdecimal():
        raise UsageError(f"{variable}={text} of the environment is no number")
    return None if text is None else int(text)
