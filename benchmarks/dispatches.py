"""Dispatches of training steps as the loop runs them, over random images, to be timed."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh

from jax_elastic.data.augment import make_batch
from jax_elastic.elastic.family import Batch, Draw
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.feed import of_dispatch
from jax_elastic.training.mesh import (
    check_batch_size,
    make_mesh,
    platform_of,
    replicated,
    sharded,
)
from jax_elastic.training.phases import Span, make_optimizer, spans
from jax_elastic.training.program import make_program
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import Step, make_step
from jax_elastic.training.sum_of_grads import Draws
from jax_elastic.training.trainable import partition

Run = Callable[[], object]
IMAGES = 1024


class Work(NamedTuple):
    """A phase that is ready to run.

    Attributes:
      experiment: what it belongs to.
      span: the phase.
      mesh: the devices that share the batch.
      step: one step of it.
      arrays: images uint8 (1024, H, W, C) and labels on the devices.
      ids: int32 (steps, batch), the images of each step.
      draws: of each step the same, see `of_dispatch`.
    """

    experiment: Experiment
    span: Span
    mesh: Mesh
    step: Step
    arrays: dict[str, jax.Array]
    ids: jax.Array
    draws: Draws | tuple[Draws, ...]

    def begin(self) -> TrainState:
        """A fresh state, placed as a dispatch leaves it, or the second one would compile again."""

        @partial(jax.jit, out_shardings=replicated(self.mesh))
        def fresh() -> TrainState:
            images = jnp.zeros((1, *self.experiment.data.image_shape), jnp.float32)
            made = self.experiment.network.init(jax.random.key(0), images)
            trainable, _ = partition(made["params"], self.span.phase.trainable)
            opt_state = make_optimizer(self.span).init(trainable)
            return TrainState(made["params"], made["stats"], opt_state, jnp.int32(0), jnp.uint32(0))

        return fresh()  # type: ignore[no-any-return]


def prepare(experiment: Experiment, phase: str, steps: int, devices: int = 1) -> Work:
    """What runs `steps` steps of a phase in one dispatch, on the first devices."""
    span = span_of(experiment, phase)
    mesh = make_mesh(jax.devices()[:devices])
    check_batch_size(span.phase.batch_size, mesh, phase)
    form = experiment.form_in(span.phase, platform_of(mesh))
    generator = np.random.default_rng(0)
    shape = (IMAGES, *experiment.data.image_shape)
    arrays = {
        "image": generator.integers(256, size=shape, dtype=np.uint8),
        "labels": np.zeros((IMAGES, len(experiment.network.classes)), np.int32),
    }
    draws = draws_of(experiment, span)
    ids = np.resize(np.arange(IMAGES, dtype=np.int32), (steps, span.phase.batch_size))
    return Work(
        experiment,
        span,
        mesh,
        make_step(experiment.network, span.phase, make_optimizer(span), form),
        jax.device_put(arrays, replicated(mesh)),
        jax.device_put(ids, sharded(mesh, axis=1)),
        of_dispatch([draws] * steps, steps, form, experiment.network).draws,
    )


def draws_of(experiment: Experiment, span: Span) -> tuple[Draw, ...]:
    """What each step of a phase draws here."""
    return experiment.network.draws(np.random.default_rng(0), span.when(span.start))


def span_of(experiment: Experiment, phase: str) -> Span:
    """A phase, placed in time."""
    return next(s for s in spans(experiment.phases, IMAGES) if s.phase.name == phase)


def dispatches(experiment: Experiment, phase: str, steps: int, devices: int = 1) -> Run:
    """One dispatch of `steps` steps that gathers and augments its images, as the loop's does."""
    work = prepare(experiment, phase, steps, devices)
    chunk = make_program(experiment, work.span, work.mesh)
    held: list[Any] = [work.begin()]

    def once() -> None:
        held[0], losses, _ = chunk(held[0], work.arrays, work.ids, work.draws, np.int32(steps))
        losses.block_until_ready()

    return once


def on_a_ready_made_batch(experiment: Experiment, phase: str, steps: int, devices: int = 1) -> Run:
    """One dispatch of `steps` steps that all read one batch that is there."""
    work = prepare(experiment, phase, steps, devices)

    @partial(jax.jit, out_shardings=sharded(work.mesh))
    def batch_of(arrays: dict[str, jax.Array], ids: jax.Array) -> Any:
        key, classes = jax.random.key(0), experiment.network.classes
        return make_batch(arrays["image"], arrays["labels"], ids, key, experiment.data, classes)

    @partial(jax.jit, donate_argnums=0, out_shardings=replicated(work.mesh))
    def chunk(state: TrainState, batch: Batch, draws: Draws, n: jax.Array) -> Any:
        def body(i: jax.Array, carry: tuple[TrainState, jax.Array]) -> Any:
            state, losses = carry
            state, sums = work.step(state, batch, jax.tree.map(lambda leaf: leaf[i], draws))
            return state, losses.at[i].set(sums["loss"][0])

        return lax.fori_loop(0, n, body, (state, jnp.zeros(steps)))

    batch = batch_of(work.arrays, work.ids[0])
    held: list[Any] = [work.begin()]

    def once() -> None:
        held[0], losses = chunk(held[0], batch, work.draws, np.int32(steps))
        losses.block_until_ready()

    return once
