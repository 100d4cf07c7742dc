"""One training step, and several of them in one dispatch."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from jax_elastic import rng
from jax_elastic.data.augment import make_batch
from jax_elastic.data.datasets import DataConfig
from jax_elastic.elastic.family import Array, Aux, Batch, Draw, Family, Form
from jax_elastic.training.accumulate import Found, accumulate
from jax_elastic.training.ema import moving_average
from jax_elastic.training.mesh import replicated, sharded
from jax_elastic.training.phases import Phase
from jax_elastic.training.state import TrainState
from jax_elastic.training.sum_of_grads import sum_of_grads
from jax_elastic.training.trainable import merge, partition

PyTree = Any
Draws = tuple[Draw, ...] | Draw
Sums = dict[str, tuple[Array, Array]]
Step = Callable[[TrainState, Batch, Draws], tuple[TrainState, Sums]]
Chunk = Callable[..., tuple[TrainState, Array, Sums]]


def make_step(
    family: Family,
    phase: Phase,
    optimizer: optax.GradientTransformation,
    form: Form,
    ema_decay: float = 0.0,
    start: int = 0,
) -> Step:
    """The step of a phase: (state, batch, draws) -> (state, sums); pure, to be jitted.

    Gate noise and the like come from (seed, step, slot of the draw). `sums` holds what the
    family's loss reports and ``loss``, the sum over draws. A moving average that the state has is
    moved by `ema_decay`; the phase begins at step `start` of the run.
    """

    def step(state: TrainState, batch: Batch, draws: Draws) -> tuple[TrainState, Sums]:
        trainable, frozen = partition(state.params, phase.trainable)

        def grads(batch: Batch, key: Array) -> Found:
            def loss(params: PyTree, draw: Draw, slot: Array) -> tuple[Array, Aux]:
                return family.loss(
                    {"params": merge(params, frozen), "stats": state.stats},
                    batch,
                    draw,
                    jax.random.fold_in(key, slot),
                    phase.objective,
                    phase.bn,
                )

            return sum_of_grads(loss, trainable, draws, form, family.subnets)

        key = rng.device(state.seed, rng.Stream.LOSS, state.step)
        (value, aux), total = accumulate(
            grads, _smooth(batch, phase.label_smoothing), key, phase.accumulate
        )
        updates, opt_state = optimizer.update(total, state.opt_state, trainable)
        new = state._replace(
            params=merge(optax.apply_updates(trainable, updates), frozen),
            stats=family.fold(state.stats, aux),
            opt_state=opt_state,
            step=state.step + 1,
        )
        if state.ema:
            moved = moving_average(state.ema, new.variables, ema_decay, state.step - start)
            new = new._replace(ema=moved)
        return new, {**aux.sums, "loss": (value, jnp.ones_like(value))}

    return step


def _smooth(batch: Batch, amount: float) -> Batch:
    """The batch with a share of each target spread over all classes (Szegedy et al. 2016)."""
    if not amount:
        return batch
    targets = tuple(optax.smooth_labels(level, amount) for level in batch["targets"])
    return {**batch, "targets": targets}


def make_chunk(step: Step, data: DataConfig, classes: tuple[int, ...], mesh: Mesh) -> Chunk:
    """Several steps per dispatch over a data set that lies on the devices.

    Returns:
      A jitted (state, arrays, ids, draws, n) -> (state, losses, sums): does the first n of k
      steps. `arrays` are the set's ``{"image": uint8, "labels": int32}``, `ids` int32 (k, B),
      `draws` have leading axis k; rows from n on are padding, so that a short chunk compiles
      nothing. `losses` (k,) is 0 from n on; `sums` are over the n steps. `state` is donated.
    """

    def batch_at(arrays: dict[str, Array], ids: Array, state: TrainState) -> Batch:
        key = rng.device(state.seed, rng.Stream.AUGMENT, state.step)
        batch = make_batch(arrays["image"], arrays["labels"], ids, key, data, classes)
        constrain = partial(lax.with_sharding_constraint, shardings=sharded(mesh))
        return jax.tree.map(constrain, batch)  # type: ignore[no-any-return]

    @partial(jax.jit, donate_argnums=0, out_shardings=replicated(mesh))
    def chunk(
        state: TrainState, arrays: dict[str, Array], ids: Array, draws: Draws, n: Array
    ) -> tuple[TrainState, Array, Sums]:
        def one(state: TrainState, i: Array) -> tuple[TrainState, Sums]:
            batch = batch_at(arrays, ids[i], state)
            return step(state, batch, jax.tree.map(lambda leaf: leaf[i], draws))

        _, shapes = jax.eval_shape(one, state, jnp.int32(0))
        zeros: Sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        losses = jnp.zeros(ids.shape[0], zeros["loss"][0].dtype)

        def body(i: Array, carry: tuple[TrainState, Array, Sums]) -> tuple[TrainState, Array, Sums]:
            state, losses, total = carry
            state, sums = one(state, i)
            losses = losses.at[i].set(sums["loss"][0])
            return state, losses, jax.tree.map(jnp.add, total, sums)

        return lax.fori_loop(0, n, body, (state, losses, zeros))  # type: ignore[no-any-return]

    return chunk
