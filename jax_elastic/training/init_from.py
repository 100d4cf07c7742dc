"""Starting weights from another run: ``--config.init_from=WORKDIR``.

Leaves of parameters and statistics go together by their path. What only one side has is not
silently left out: it is told, in lines and as a metric row of kind ``start``. So is what both have
and a run yet begins with as its config says.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_elastic.elastic.abilities import BeginsAnew
from jax_elastic.elastic.family import Family, Variables
from jax_elastic.errors import UsageError, first_few
from jax_elastic.training.checkpoint import Meta, leaves_by_path, shapes_by_path
from jax_elastic.training.metrics import Row
from jax_elastic.training.phases import Phase
from jax_elastic.training.workdir import load_variables, read_config

PyTree = Any


class Match(NamedTuple):
    """How the leaves of a network and of a checkpoint go together, as paths.

    Attributes:
      taken: what both have.
      fresh: what the checkpoint lacks; it stays as it was initialised.
      dropped: what the network lacks.
      anew: what both have and is a run's own; it stays as it was initialised.
    """

    taken: tuple[str, ...]
    fresh: tuple[str, ...]
    dropped: tuple[str, ...]
    anew: tuple[str, ...]


class Start(NamedTuple):
    """Where a run starts.

    Attributes:
      variables: the starting weights.
      row: of kind ``start``: `init_from`, its `init_step` and `init_hash`, how many leaves were
        `taken`, and the paths of those that are `fresh`, were `dropped` or begin `anew`.
      lines: the same for the terminal.
    """

    variables: Variables
    row: Row
    lines: tuple[str, ...]


def start_from(
    workdir: str,
    family: Family,
    fresh: Variables,
    phases: tuple[Phase, ...],
    place: jax.sharding.Sharding,
) -> Start:
    """Takes over what fits from the newest whole checkpoint of another run, as `load` gives it.

    Args:
      workdir: of the other run; its network may be another one.
      family: this network; what it says that begins anew is not taken over (`BeginsAnew`).
      fresh: the variables as it initialises them.
      phases: those that will be run.
      place: where the variables are put, in memory of their own, so that they may be donated.

    Raises:
      UsageError: no workdir or no whole checkpoint; no leaf in common; a common one of another
        shape or dtype; a parameter that is not in the checkpoint and that no phase trains.
    """
    found, meta = _read(workdir)
    match = match_leaves(fresh, found, workdir, _own_of_a_run(family))
    _check_trained(match, phases, workdir)
    there = leaves_by_path(found)
    others = {path: there[path] for path in match.taken}
    own, structure = jax.tree.flatten(fresh)
    merged = [others.get(path, leaf) for path, leaf in zip(leaves_by_path(fresh), own, strict=True)]
    # Copied by a program, because a buffer of `device_put` may be shared with its source.
    copy = jax.jit(lambda leaves: jax.tree.map(jnp.copy, leaves), out_shardings=place)
    variables = jax.tree.unflatten(structure, copy(jax.device_get(merged)))
    return Start(variables, _row(workdir, meta, match), _lines(workdir, meta, match))


def match_leaves(own: PyTree, found: PyTree, workdir: str, of_a_run: tuple[str, ...] = ()) -> Match:
    """Matches the leaves of a network with those that were found in a workdir.

    Leaves at the paths `of_a_run` are not taken and may have any shape.

    Raises:
      UsageError: they have no path in common, or one with another shape or dtype.
    """
    here, there = shapes_by_path(own), shapes_by_path(found)
    common = [path for path in here if path in there]
    taken = tuple(path for path in common if path not in of_a_run)
    if not taken:
        raise UsageError(
            f"config.init_from={workdir} has no leaf in common with this network",
            f"it has {first_few(list(there))}; the network {first_few(list(here))}",
        )
    other = [
        f"{path} is {there[path]} there and {here[path]} here"
        for path in taken
        if there[path] != here[path]
    ]
    if other:
        raise UsageError(
            f"config.init_from={workdir} does not fit this network: {first_few(other)}",
            next_step="take a run of the same backbone and classes, or change config.network",
        )
    return Match(
        taken,
        fresh=tuple(path for path in here if path not in there),
        dropped=tuple(path for path in there if path not in here),
        anew=tuple(path for path in common if path in of_a_run),
    )


def _own_of_a_run(family: Family) -> tuple[str, ...]:
    """The paths of what is not taken over, if the family has any."""
    return family.begins_anew if isinstance(family, BeginsAnew) else ()


def _read(workdir: str) -> tuple[Variables, Meta]:
    try:
        return load_variables(Path(workdir), read_config(Path(workdir)))
    except UsageError as error:
        raise UsageError(f"config.init_from: {error}") from None


def _check_trained(match: Match, phases: tuple[Phase, ...], workdir: str) -> None:
    """Refuses parameters that would be noise for ever, or where what is trained is only refined."""
    params = [path.removeprefix("params/") for path in match.fresh if path.startswith("params/")]
    taken = [path.removeprefix("params/") for path in match.taken if path.startswith("params/")]
    first = phases[0]
    # A phase that trains what is new and nothing else is no such case.
    if params and first.finetune and any(re.search(first.trainable, path) for path in taken):
        raise UsageError(
            f"config.init_from={workdir} lacks {first_few(params)}, and phase {first.name!r} "
            "finetunes what was trained",
            next_step="take a run that trained them",
        )
    never = [
        path for path in params if not any(re.search(phase.trainable, path) for phase in phases)
    ]
    if never:
        names = ", ".join(phase.name for phase in phases)
        raise UsageError(
            f"config.init_from={workdir} lacks {first_few(never)}, which no phase that is run "
            f"({names}) trains",
            next_step="take a run that has them, or add a phase that trains them",
        )


def _row(workdir: str, meta: Meta, match: Match) -> Row:
    return {
        "kind": "start",
        "step": 0,
        "init_from": workdir,
        "init_step": meta["step"],
        "init_hash": meta["hashes"][meta["item"]],
        "taken": len(match.taken),
        "fresh": list(match.fresh),
        "dropped": list(match.dropped),
        "anew": list(match.anew),
    }


def _lines(workdir: str, meta: Meta, match: Match) -> tuple[str, ...]:
    hashed = meta["hashes"][meta["item"]]
    lines = [
        f"starting from {workdir}, step {meta['step']}, variables {hashed}: "
        f"{len(match.taken)} leaves taken"
    ]
    for paths, told in (
        (match.fresh, f"leaves of this network are not in {workdir} and start fresh"),
        (match.dropped, f"leaves of {workdir} are not in this network and are left out"),
        (match.anew, f"leaves are not taken from {workdir} but begin as configured"),
    ):
        if paths:
            lines.append(f"{len(paths)} {told}: {first_few(paths)}")
    return tuple(lines)
