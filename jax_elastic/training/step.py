"""One training step, its two halves, and several steps in one dispatch."""

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
from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.abilities import Switching
from jax_elastic.elastic.family import Array, Aux, Batch, Draw, Family, Form
from jax_elastic.training.accumulate import accumulate
from jax_elastic.training.ema import moving_average
from jax_elastic.training.magnitudes import magnitudes
from jax_elastic.training.mesh import replicated, sharded
from jax_elastic.training.phases import Phase
from jax_elastic.training.state import TrainState
from jax_elastic.training.sum_of_grads import Draws, Found, added, sum_of_grads
from jax_elastic.training.trainable import merge, partition

PyTree = Any
Sums = dict[str, tuple[Array, Array]]
Step = Callable[[TrainState, Batch, Draws], tuple[TrainState, Sums]]
Gradients = Callable[[TrainState, Batch, Draws, int | Array], Found]
Update = Callable[[TrainState, Found], tuple[TrainState, Sums]]
BatchAt = Callable[[dict[str, Array], Array, TrainState], Batch]
Chunk = Callable[..., tuple[TrainState, Array, Sums]]


def make_step(
    family: Family,
    phase: Phase,
    optimizer: optax.GradientTransformation,
    form: Form,
    ema_decay: float = 0.0,
    start: int = 0,
    measured: bool = False,
) -> Step:
    """The step of a phase: (state, batch, draws) -> (state, sums); pure, to be jitted.

    Gate noise and the like come from (seed, step, slot of the draw). `sums` holds what the
    family's loss reports and ``loss``, the sum over draws; where gradients are `measured`, also
    their `magnitudes`. A moving average that the state has is moved by `ema_decay`; the phase
    begins at step `start` of the run.
    """
    gradients = make_gradients(family, phase, form)
    update = make_update(family, phase, optimizer, ema_decay, start, measured)

    def step(state: TrainState, batch: Batch, draws: Draws) -> tuple[TrainState, Sums]:
        return update(state, gradients(state, batch, draws, 0))

    return step


def make_gradients(family: Family, phase: Phase, form: Form) -> Gradients:
    """The first half of a step: (state, batch, draws, first) -> loss, aux and gradients; pure.

    `first` int32 () is the place of the first draw among those of the step, for keys. Neither
    optimizer state nor moving average of `state` is read.
    """
    loss_of, computed = loss_in(family, form)

    def gradients(state: TrainState, batch: Batch, draws: Draws, first: int | Array) -> Found:
        trainable, frozen = partition(state.params, phase.trainable)

        def of_part(batch: Batch, key: Array) -> Found:
            def loss(params: PyTree, draw: Draw, slot: Array) -> tuple[Array, Aux]:
                return loss_of(
                    {"params": merge(params, frozen), "stats": state.stats},
                    batch,
                    draw,
                    jax.random.fold_in(key, first + slot),
                    phase.objective,
                    phase.bn,
                )

            return sum_of_grads(loss, trainable, draws, computed, family.subnets)

        key = rng.device(state.seed, rng.Stream.LOSS, state.step)
        return accumulate(of_part, smooth(batch, phase.label_smoothing), key, phase.accumulate)

    return gradients


def loss_in(family: Family, form: Form) -> tuple[Callable[..., tuple[Array, Aux]], Form]:
    """The loss that a form goes by, and the form of `sum_of_grads` that computes it.

    They are the family's loss and the form itself, but where the family switches by itself.
    """
    if form == "scan_switch" and isinstance(family, Switching):
        return family.switched_loss, "scan"
    return family.loss, form


def make_update(
    family: Family,
    phase: Phase,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    start: int,
    measured: bool,
) -> Update:
    """The second half of a step: (state, what the first half found) -> (state, sums); pure."""

    def update(state: TrainState, found: Found) -> tuple[TrainState, Sums]:
        (value, aux), total = found
        trainable, frozen = partition(state.params, phase.trainable)
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
        told = {"loss": value}
        if measured:
            told |= magnitudes(family, state.stats, total, frozen)
        return new, {**aux.sums, **{name: (of, jnp.ones_like(of)) for name, of in told.items()}}

    return update


def smooth(batch: Batch, amount: float) -> Batch:
    """The batch with a share of each target spread over all classes (Szegedy et al. 2016)."""
    if not amount:
        return batch
    targets = tuple(optax.smooth_labels(level, amount) for level in batch["targets"])
    return {**batch, "targets": targets}


def make_batch_at(data: DataConfig, classes: tuple[int, ...], mesh: Mesh) -> BatchAt:
    """(arrays, ids, state) -> the images of the step that a state is at, spread over the devices.

    Pure. `arrays` and `ids` int32 (B,) are those of `make_batch`.
    """

    def batch_at(arrays: dict[str, Array], ids: Array, state: TrainState) -> Batch:
        key = rng.device(state.seed, rng.Stream.AUGMENT, state.step)
        batch = make_batch(arrays["image"], arrays["labels"], ids, key, data, classes)
        constrain = partial(lax.with_sharding_constraint, shardings=sharded(mesh))
        return jax.tree.map(constrain, batch)  # type: ignore[no-any-return]

    return batch_at


def make_chunk(step: Step, data: DataConfig, classes: tuple[int, ...], mesh: Mesh) -> Chunk:
    """Several steps per dispatch over a data set that lies on the devices.

    Returns:
      A jitted (state, arrays, ids, draws, n) -> (state, losses, sums): does the first n of k
      steps. `arrays` are the set's ``{"image": uint8, "labels": int32}``, `ids` int32 (k, B),
      `draws` have leading axis k; rows from n on are padding, so that a short chunk compiles
      nothing. `losses` (k,) is 0 from n on; `sums` are over the n steps. `state` is donated.
    """
    batch_at = make_batch_at(data, classes, mesh)

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
            return state, losses, added(total, sums)

        return lax.fori_loop(0, n, body, (state, losses, zeros))  # type: ignore[no-any-return]

    return chunk
