"""Times of training steps, as ratios: `python -m benchmarks.train_step [--rounds=15]`.

The steps of URNet's phases against the plain network's (ResNet-32 for CIFAR, batch 128), and
several steps per dispatch against one (the digits network, batch 128).
"""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.command import run
from benchmarks.provenance import facts
from benchmarks.timing import COLUMNS, Ratio, interleaved, rows
from jax_elastic.cli.flags import parse, read_config
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import format_table
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.mesh import make_mesh, replicated
from jax_elastic.training.phases import make_optimizer, spans
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import make_chunk, make_step
from jax_elastic.training.trainable import partition

Run = Callable[[], object]
BATCH = 128
STEPS = 8  # of a dispatch
IMAGES = 1024

RATIOS = (
    Ratio("plain step", "plain step"),
    Ratio("joint step", "plain step", most=1.15),
    Ratio("gates-only step", "plain step", most=0.65),
    Ratio(f"digits, 1 dispatch of {STEPS} steps", f"digits, {STEPS} dispatches of 1 step"),
)


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, __doc__ or "")
    configure(values)
    seconds = interleaved(runs(), values.rounds)
    shared = {"command": f"python -m benchmarks.train_step --rounds={values.rounds}", **facts()}
    found = [{**row, **shared} for row in rows(RATIOS, seconds)]
    write_json(values.json, "times", found)
    print(format_table(found, COLUMNS))


def runs() -> dict[str, Run]:
    """What is timed, by name."""
    # The paper's phases with gates have twice the base's batch.
    changes = [f"--config.phases.{name}.batch_size={BATCH}" for name in ("gates", "joint")]
    urnet, _ = read_config(["--config=configs/urnet_cifar10.py:32", *changes], "")
    plain, _ = read_config(["--config=configs/urnet_cifar10.py:32,base"], "")
    digits, _ = read_config(["--config=configs/urnet_digits.py"], "")
    return {
        "plain step": dispatches(plain, "base", 1),
        "joint step": dispatches(urnet, "joint", 1),
        "gates-only step": dispatches(urnet, "gates", 1),
        RATIOS[-1].name: dispatches(digits, "joint", STEPS),
        RATIOS[-1].baseline: partial(_repeat, dispatches(digits, "joint", 1), STEPS),
    }


def _repeat(once: Run, times: int) -> None:
    for _ in range(times):
        once()


def dispatches(experiment: Experiment, phase: str, steps: int) -> Run:
    """One dispatch of `steps` steps of a phase, over random images that lie on the device."""
    span = next(s for s in spans(experiment.phases, IMAGES) if s.phase.name == phase)
    mesh = make_mesh(jax.devices()[:1])
    optimizer = make_optimizer(span)
    step = make_step(experiment.network, span.phase, optimizer, experiment.form)
    chunk = make_chunk(step, experiment.data, experiment.network.classes, mesh)
    generator = np.random.default_rng(0)
    shape = (IMAGES, *experiment.data.image_shape)
    arrays = {
        "image": jnp.asarray(generator.integers(256, size=shape, dtype=np.uint8)),
        "labels": jnp.zeros((IMAGES, len(experiment.network.classes)), jnp.int32),
    }
    draws = experiment.network.draws(generator, span.when(span.start))
    stacked = jax.tree.map(lambda leaf: np.stack([leaf] * steps), draws)
    ids = np.resize(np.arange(IMAGES, dtype=np.int32), (steps, span.phase.batch_size))

    # Placed as the chunk places it, or its second call would compile again.
    @partial(jax.jit, out_shardings=replicated(mesh))
    def begin() -> TrainState:
        images = jnp.zeros((1, *experiment.data.image_shape), jnp.float32)
        fresh = experiment.network.init(jax.random.key(0), images)
        opt_state = optimizer.init(partition(fresh["params"], span.phase.trainable)[0])
        return TrainState(fresh["params"], fresh["stats"], opt_state, jnp.int32(0), jnp.uint32(0))

    held: list[Any] = [begin()]

    def once() -> None:
        held[0], losses, _ = chunk(held[0], arrays, ids, stacked, np.int32(steps))
        losses.block_until_ready()

    return once


def _define(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("rounds", 15, "of everything", lower_bound=3, flag_values=values)
    flags.DEFINE_string("json", "docs/results/train_step.json", "rows go here", flag_values=values)
    define_platform(values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
