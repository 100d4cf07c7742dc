"""Times of the steps of resizable networks: `python -m benchmarks.resizable_step [--rounds=9]`.

The fair-sampled step of all m sub-networks, in every form that the network has, against the steps
of the m by themselves, one after the other: networks of one operating point each, with a single set
of BN layers. Together the sub-networks of a fair step use each scale of each stage once, so it has
the same MACs whichever are drawn. `--network` chooses a backbone; all are for CIFAR's images, which
are not augmented. What compiling and holding a step takes: `benchmarks.steps`.

Then `--iterations` fair-sampled iterations by the default form, of 2 images each, for what they
compile does not depend on how many: how many programs of the network there are then.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks.command import run
from benchmarks.dispatches import draws_of, prepare, span_of
from benchmarks.provenance import facts
from benchmarks.steps import TABLE, Case, measure
from benchmarks.timing import Ratio, load
from jax_elastic import rng
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli.flags import parse
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.family import BY_HOST, Form
from jax_elastic.elastic.resizable import recipe
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import Column, format_table
from jax_elastic.training.experiment import Experiment, Settings
from jax_elastic.training.feed import of_dispatch
from jax_elastic.training.form import FormChoice
from jax_elastic.training.mesh import platform_of
from jax_elastic.training.phases import Phase
from jax_elastic.training.program import make_program

BATCH, ITERATIONS = 64, 200
DATA = DataConfig("cifar10", (32, 32, 3), pad=0, mean=(0.5,) * 3, std=(0.25,) * 3)
SCALES = (0.5, 0.75, 1.0)
BACKBONES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"small": partial(ResNet, stage_sizes=(2, 2, 2), width=16), **recipe.BACKBONES}
)

MOST = 1.05  # of the steps of the m networks
APART = "m networks"
COMPILED = "/jax/core/compile/backend_compile_duration"


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, __doc__ or "")
    configure(values)
    # Or times of compiling would be those of reading; the environment may have named one, too.
    jax.config.update("jax_compilation_cache_dir", None)
    network = network_of(values.network)
    told = {"batch": values.batch_size, "command": _command(argv), **facts()}
    timed = measure(case(values.network, network, values.forms, values.batch_size), values.rounds)
    found = [{**row, **told, **load()} for row in timed]
    write_json(values.json, "resizable_steps", found)
    print(format_table(found, TABLE), flush=True)
    if values.iterations:
        counted = compilations(network, values.iterations)
        found.append({"case": values.network, **counted, **told, "batch": 2})
        write_json(values.json, "resizable_steps", found)
        print(format_table(found[-1:], COUNTS))


def _command(argv: Sequence[str]) -> str:
    return " ".join(["python -m benchmarks.resizable_step", *argv])


def network_of(name: str) -> Resizable:
    """A network that is measured, by its name in `BACKBONES`."""
    return Resizable(BACKBONES[name](classes=10, stem="cifar"), SCALES)


def case(name: str, network: Resizable, forms: Sequence[Form], batch_size: int) -> Case:
    """A fair step in some forms (all, if none is named) against its sub-networks' own steps.

    The bar is that of the form that training takes here by default.

    Raises:
      UsageError: the network has no such form.
    """
    for form in forms:
        if form not in network.forms:
            there_are = ", ".join(sorted(network.forms))
            raise UsageError(f"form {form!r} is none of {name}", f"there are: {there_are}")
    default = experiment(network, batch_size)
    taken = default.form_in(default.phases[0], jax.default_backend())
    runs = {APART: tuple(experiment(own, batch_size) for own in apart(network))}
    ratios = [Ratio(APART, APART)]
    every: Sequence[Any] = sorted(network.forms)
    for form in forms or every:
        runs[form] = (experiment(network, batch_size, form),)
        ratios.append(Ratio(form, APART, MOST if form == taken else None))
    return Case(name, runs, tuple(ratios))


def apart(network: Resizable) -> tuple[Resizable, ...]:
    """The sub-networks of the step that is measured, as networks of one operating point."""
    fair = experiment(network, 1)
    drawn = [draw.subnet for draw in draws_of(fair, span_of(fair, "only"))]
    return tuple(
        dataclasses.replace(network, target=subnet.value, shared_bn=True)
        for subnet in drawn
        if subnet is not None
    )


def experiment(network: Resizable, batch_size: int, form: FormChoice = Settings.form) -> Experiment:
    """The training of a network, by fair sampling unless it trains one point only."""
    objective = "target" if network.target else "fair"
    phase = Phase("only", 1.0, objective, 0.1, batch_size=batch_size, weight_decay=1e-4)
    return Experiment(network=network, phases=(phase,), data=DATA, form=form)


def compilations(
    network: Resizable, iterations: int, form: FormChoice = Settings.form
) -> dict[str, Any]:
    """How many programs some fair-sampled iterations have compiled.

    Returns:
      `form`, `iterations`; `forward` and `backward`, programs of the network, which are one where
      one does both; `bound` of either, and whether it was `kept`; `all`, with whatever else was
      compiled; `last`, the iteration, counted from 1, that compiled the last of them.
    """
    asked = experiment(network, 2, form)
    work = prepare(asked, "only", 1)
    taken = asked.form_in(work.span.phase, platform_of(work.mesh))
    program: Any = make_program(asked, work.span, work.mesh)
    state = jax.block_until_ready(work.begin())
    last = met = 0
    with counting() as events:
        for i in range(iterations):
            drawn = network.draws(rng.host(0, rng.Stream.DRAWS, i), work.span.when(i))
            draws = of_dispatch([drawn], 1, taken, network).draws
            state, losses, _ = program(state, work.arrays, work.ids, draws, np.int32(1))
            losses.block_until_ready()
            last = i + 1 if len(events) > met else last
            met = len(events)
    forward, backward = programs_of(program, taken)
    bound = bound_of(network, taken)
    return {
        "form": taken,
        "iterations": iterations,
        "forward": forward,
        "backward": backward,
        "bound": bound,
        "kept": None if bound is None else max(forward, backward) <= bound,
        "all": len(events),
        "last": last,
    }


def programs_of(program: Any, form: Form) -> tuple[int, int]:
    """How many programs that run the network, and that give its gradients, were compiled."""
    if form == "staged":
        gradients = program.gradients
        return gradients.forward._cache_size(), gradients.backward._cache_size()
    both = (program.gradients if form in BY_HOST else program)._cache_size()
    return both, both


def bound_of(network: Resizable, form: Form) -> int | None:
    """The most of them, whatever is drawn and however often; None where each new draw adds one.

    Of `staged`, a segment has a program for each scale of its own stage and of the one before: at
    most so many, or as many as there are points, if these are fewer. Then it may be missed by
    programs of single segments, though they take less time to compile than the points do, see
    `jax_elastic.training.form`.
    """
    points = len(network.subnets)
    if form == "staged":
        segments = len(network.segments(network.subnets.fullest))
        return min(segments * len(network.scales) ** 2, points)
    if form == "sliced":
        return None
    return points if form in BY_HOST else 1


@contextmanager
def counting() -> Iterator[list[float]]:
    """Within it, the seconds of each compilation are added to a list."""
    found: list[float] = []

    def note(event: str, duration_secs: float, **told: Any) -> None:
        if event == COMPILED:
            found.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


COUNTS = (
    Column("case", "case", left=True),
    Column("form", "form", left=True),
    Column("iterations", "iterations", str),
    Column("forward", "programs forward", str),
    Column("backward", "backward", str),
    Column("bound", "bound", str),
    Column("kept", "kept", lambda kept: "yes" if kept else "no"),
    Column("all", "all compiled", str),
    Column("last", "last in iteration", str),
)
"""Of the second table."""


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("rounds", 9, "of everything", lower_bound=3, flag_values=values)
    flags.DEFINE_enum("network", "small", list(BACKBONES), "what is timed", flag_values=values)
    flags.DEFINE_multi_string("forms", [], "of the step, repeated; all if none", flag_values=values)
    flags.DEFINE_integer("batch_size", BATCH, "images", lower_bound=1, flag_values=values)
    flags.DEFINE_integer(
        "iterations", ITERATIONS, "whose compilations are counted", 0, flag_values=values
    )
    flags.DEFINE_string(
        "json", "docs/results/resizable_step.json", "rows go here", flag_values=values
    )
    define_platform(values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
