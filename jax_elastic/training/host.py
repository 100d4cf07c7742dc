"""The form `host`: each draw of a step is a program of its own, called by the host.

    make the batch -> of each draw the gradients, added to those before -> update

A program belongs to a static `Subnet`, and jit's cache finds it. So draws may change from step to
step: nothing is compiled but what was never drawn before, and no device has a choice to make.
"""

import itertools
from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.family import Array, Batch, Draw
from jax_elastic.training.mesh import replicated, sharded
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import Gradients, Sums, Update, make_batch_at
from jax_elastic.training.sum_of_grads import Found, added

Totals = tuple[Array, Sums]


class HostChunk:
    """Several steps over a data set that lies on the devices; called as a chunk of `make_chunk` is.

    Only `draws` are others: for each step a tuple of static ones. The state is donated; the
    gradients of one draw, and the sum of those before it, are in memory at a time.

    Args:
      gradients: first half of a step, see `make_gradients`; it calls compiled programs.
      update: second half, see `make_update`.
      programs: what has to be compiled for a draw.
      data: the augmentation.
      classes: number of classes of each target, see `Family.targets`.
      mesh: the devices.

    Attributes:
      batch: the jitted (arrays, ids, i, state) -> images of step i.
      gradients: the first half.
      add: the jitted sum of what two calls of `gradients` found.
      update: the jitted second half, which also adds up what a chunk returns.
    """

    def __init__(
        self,
        gradients: Gradients,
        update: Update,
        programs: Callable[[Draw], frozenset[Any]],
        data: DataConfig,
        classes: tuple[int, ...],
        mesh: Mesh,
    ):
        everywhere, batch_at = replicated(mesh), make_batch_at(data, classes, mesh)

        def batch(arrays: dict[str, Array], ids: Array, i: Array, state: TrainState) -> Batch:
            return batch_at(arrays, ids[i], state)

        # jit keeps programs by function: one of its own, or chunks would share theirs.
        def add(a: Found, b: Found) -> Found:
            return added(a, b)  # type: ignore[no-any-return]

        def zeros(ids: Array, state: TrainState, found: Found) -> Totals:
            _, shapes = jax.eval_shape(update, state, found)
            sums: Sums = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
            return jnp.zeros(ids.shape[0], sums["loss"][0].dtype), sums

        def counted(
            state: TrainState, totals: Totals, found: Found, i: Array
        ) -> tuple[TrainState, Totals]:
            losses, total = totals
            state, sums = update(state, found)
            return state, (losses.at[i].set(sums["loss"][0]), added(total, sums))

        self.batch = jax.jit(batch, out_shardings=sharded(mesh))
        self.gradients: Any = gradients  # jitted, or a caller of what is
        self._programs = programs
        self.add = jax.jit(add, donate_argnums=0, out_shardings=everywhere)
        self.update = jax.jit(counted, donate_argnums=(0, 1), out_shardings=everywhere)
        self._zeros = jax.jit(zeros, out_shardings=everywhere)
        self._copy = jax.jit(partial(jax.tree.map, jnp.copy), out_shardings=everywhere)

    def __call__(
        self,
        state: TrainState,
        arrays: dict[str, Array],
        ids: Array,
        draws: tuple[tuple[Draw, ...], ...],
        n: int | np.integer[Any],
    ) -> tuple[TrainState, Array, Sums]:
        """Does the first n of k steps; n = 0 compiles what they need."""
        if n == 0:
            return state, *self._compile(state, arrays, ids, draws)
        for i, of_step in enumerate(draws[:n]):
            found = self._found(state, arrays, ids, np.int32(i), of_step)
            if i == 0:
                totals = self._zeros(ids, state, found)
            state, totals = self.update(state, totals, found, np.int32(i))
        return state, *totals

    def _found(
        self,
        state: TrainState,
        arrays: dict[str, Array],
        ids: Array,
        i: np.int32,
        draws: tuple[Draw, ...],
    ) -> Found:
        """The first half of step i."""
        read = state._replace(opt_state=(), ema=())
        batch = self.batch(arrays, ids, i, read)
        parts = (
            self.gradients(read, batch, (draw,), np.int32(slot)) for slot, draw in enumerate(draws)
        )
        return reduce(self.add, parts)  # type: ignore[no-any-return]

    def _compile(
        self,
        state: TrainState,
        arrays: dict[str, Array],
        ids: Array,
        draws: tuple[tuple[Draw, ...], ...],
    ) -> Totals:
        """Calls every program once; what a dispatch of no step returns beside the state.

        Only a call fills jit's cache. So it does a step that has draws of every program, on a
        copy of the state, and waits for it.
        """
        met: set[Any] = set()
        needed = []
        for draw in itertools.chain(*draws):
            if self._programs(draw) - met:
                needed.append(draw)
                met |= self._programs(draw)
        # One more, or a single draw would leave `add` out.
        found = self._found(state, arrays, ids, np.int32(0), (*needed, needed[0]))
        thrown = self.update(self._copy(state), self._zeros(ids, state, found), found, np.int32(0))
        jax.block_until_ready(thrown)
        return self._zeros(ids, state, found)  # type: ignore[no-any-return]
