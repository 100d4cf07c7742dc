"""The form `staged`: each segment of each draw is a program of its own, called by the host.

    forward through the segments, keeping what each needs for its gradient -> score -> backward

A program belongs to a segment and the shape of what it is given, so a network of n stages and m
scales compiles some m for each stage, and as many small ones as there are pairs of neighbouring
scales, whatever combinations are drawn. No device has a choice to make.
"""

from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jax_elastic import rng
from jax_elastic.elastic.family import (
    Array,
    Aux,
    Batch,
    Carry,
    PyTree,
    Segment,
    StagedFamily,
    TrainCode,
)
from jax_elastic.elastic.segments import first_carry
from jax_elastic.layers.norm import complete_moments
from jax_elastic.subnet import Subnet
from jax_elastic.training.mesh import replicated
from jax_elastic.training.phases import Phase
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import smooth
from jax_elastic.training.sum_of_grads import Draws, Found
from jax_elastic.training.trainable import merge, partition


class StagedGradients:
    """The gradients of one draw; called as what `make_gradients` gives is, but not to be jitted.

    Args:
      family: a network whose segments can be trained one by one.
      phase: what is trained, and how; a batch is taken whole.
      mesh: the devices.

    Attributes:
      forward: the jitted run of one segment, which also gives what its gradient needs.
      backward: the jitted gradient of one.
    """

    def __init__(self, family: StagedFamily, phase: Phase, mesh: Mesh):
        self._family = family
        self._segments: dict[Subnet, tuple[Segment, ...]] = {}

        def begin(state: TrainState, slot: Array) -> tuple[Array, PyTree, PyTree]:
            trainable, _ = partition(state.params, phase.trainable)
            key = jax.random.fold_in(rng.device(state.seed, rng.Stream.LOSS, state.step), slot)
            zeros = jax.tree.map(jnp.zeros_like, trainable)
            return key, zeros, complete_moments(state.stats, None)

        def forward(
            state: TrainState, carry: Carry, moments: PyTree, key: Array, segment: Segment
        ) -> tuple[Carry, Any, PyTree]:
            trainable, frozen = partition(state.params, phase.trainable)

            def run(trainable: PyTree, carry: Carry) -> tuple[Carry, PyTree]:
                variables: Any = {"params": merge(trainable, frozen), "stats": state.stats}
                code = cast(TrainCode, segment.code)
                return code.train(segment.take(variables), carry, key, phase.bn)

            if "image" in carry:  # nobody asks for its gradient
                after, pull, found = jax.vjp(partial(run, carry=carry), trainable, has_aux=True)
            else:
                after, pull, found = jax.vjp(run, trainable, carry, has_aux=True)
            return after, pull, _add(moments, complete_moments(state.stats, found))

        def score(carry: Carry, batch: Batch) -> tuple[Any, Carry]:
            soft = smooth(batch, phase.label_smoothing)
            of = jax.value_and_grad(family.score, has_aux=True)
            return of(carry, soft, phase.objective)

        def backward(pull: Any, ct: Carry, total: PyTree) -> tuple[PyTree, Carry | None]:
            gradient, *before = pull(ct)
            return _add(total, gradient), before[0] if before else None

        everywhere = replicated(mesh)
        self._begin = jax.jit(begin, out_shardings=everywhere)
        self.forward = jax.jit(
            forward,
            static_argnames="segment",
            donate_argnums=2,
            out_shardings=(None, None, everywhere),
        )
        self._score = jax.jit(score)
        self.backward = jax.jit(backward, donate_argnums=2, out_shardings=(everywhere, None))

    def __call__(self, state: TrainState, batch: Batch, draws: Draws, first: int | Array) -> Found:
        """The loss, aux and gradients of one draw, whose place in the step is `first`."""
        assert isinstance(draws, tuple)
        (draw,) = draws
        assert draw.subnet is not None
        key, total, moments = self._begin(state, first)
        carry, pulls = first_carry(batch["image"], None, None), []
        for segment in self._of(draw.subnet):
            carry, pull, moments = self.forward(state, carry, moments, key, segment=segment)
            pulls.append(pull)
        (loss, sums), ct = self._score(carry, batch)
        for pull in reversed(pulls):
            total, ct = self.backward(pull, ct, total)
        return (loss, Aux(moments, sums)), total

    def _of(self, subnet: Subnet) -> tuple[Segment, ...]:
        # Made once: programs are found by what they are of, and equal ones are found quickest
        # where they are the same.
        if subnet not in self._segments:
            self._segments[subnet] = self._family.segments(subnet)
        return self._segments[subnet]


def _add(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, a, b)
