"""The form `staged`: each segment of each draw is a program of its own, called by the host.

    forward through the segments, keeping what each needs for its gradient -> score -> backward

A program belongs to a segment and the shape of what it is given, so a network of n stages and m
scales compiles some m for each stage, and as many small ones as there are pairs of neighbouring
scales, whatever combinations are drawn. No device has a choice to make.

Nothing is differentiated before the first segment that trains: the backward ends there.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jax_elastic import rng
from jax_elastic.elastic.abilities import StagedFamily
from jax_elastic.elastic.family import Array, Aux, Batch, Carry, PyTree, Segment, TrainCode
from jax_elastic.elastic.segments import first_carry
from jax_elastic.layers.norm import complete_moments
from jax_elastic.subnet import Subnet
from jax_elastic.training.mesh import replicated
from jax_elastic.training.phases import Phase
from jax_elastic.training.state import TrainState
from jax_elastic.training.step import smooth
from jax_elastic.training.sum_of_grads import Draws, Found, added
from jax_elastic.training.trainable import is_trained, merge, partition


class Link(NamedTuple):
    """A segment where it stands.

    Attributes:
      segment: what is run.
      asked: whose gradients are asked of it: `trainable`, what it is given (`carry`), both or none.
    """

    segment: Segment
    asked: tuple[str, ...]


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
        self._family, self._pattern = family, phase.trainable
        self._links: dict[Subnet, tuple[Link, ...]] = {}

        def begin(state: TrainState, slot: Array) -> tuple[Array, PyTree, PyTree]:
            trainable, _ = partition(state.params, phase.trainable)
            key = jax.random.fold_in(rng.device(state.seed, rng.Stream.LOSS, state.step), slot)
            zeros = jax.tree.map(jnp.zeros_like, trainable)
            return key, zeros, complete_moments(state.stats, None)

        def forward(
            state: TrainState, carry: Carry, moments: PyTree, key: Array, link: Link
        ) -> tuple[Carry, Any, PyTree]:
            trainable, frozen = partition(state.params, phase.trainable)
            given = {"trainable": trainable, "carry": carry}

            def run(asked: dict[str, PyTree]) -> tuple[Carry, PyTree]:
                both = {**given, **asked}
                params = merge(both["trainable"], frozen)
                own = link.segment.take({"params": params, "stats": state.stats})
                code = cast(TrainCode, link.segment.code)
                return code.train(own, both["carry"], key, phase.bn)

            pull = None
            if link.asked:
                asked = {name: given[name] for name in link.asked}
                after, pull, found = jax.vjp(run, asked, has_aux=True)
            else:
                after, found = run({})
            return after, pull, added(moments, complete_moments(state.stats, found))

        def score(carry: Carry, batch: Batch) -> tuple[Any, Carry]:
            soft = smooth(batch, phase.label_smoothing)
            of = jax.value_and_grad(family.score, has_aux=True)
            return of(carry, soft, phase.objective)

        def backward(pull: Any, ct: Carry, total: PyTree) -> tuple[PyTree, Carry | None]:
            (gradient,) = pull(ct)
            if "trainable" in gradient:
                total = added(total, gradient["trainable"])
            return total, gradient.get("carry")

        everywhere = replicated(mesh)
        self._begin = jax.jit(begin, out_shardings=everywhere)
        self.forward = jax.jit(
            forward,
            static_argnames="link",
            donate_argnums=2,
            out_shardings=(None, None, everywhere),
        )
        self._score = jax.jit(score)
        self.backward = jax.jit(backward, donate_argnums=2, out_shardings=(everywhere, None))

    def __call__(self, state: TrainState, batch: Batch, draws: Draws, first: int | Array) -> Found:
        """The loss, aux and gradients of one draw, whose place in the step is `first`."""
        assert isinstance(draws, tuple)
        (draw,) = draws
        assert draw.subnet is not None and not draw.values
        key, total, moments = self._begin(state, first)
        carry, pulls = first_carry(batch["image"], None, None), []
        for link in self._of(draw.subnet, state):
            carry, pull, moments = self.forward(state, carry, moments, key, link=link)
            if link.asked:
                pulls.append(pull)
        del pull  # or the last one's memory would be held to the end
        (loss, sums), ct = self._score(carry, batch)
        while pulls:
            total, ct = self.backward(pulls.pop(), ct, total)
        return (loss, Aux(moments, sums)), total

    def _of(self, subnet: Subnet, state: TrainState) -> tuple[Link, ...]:
        # Made once: programs are found by what they are of, and equal ones are found quickest
        # where they are the same.
        if subnet not in self._links:
            segments = self._family.segments(subnet)
            trained = [is_trained(own.take, state.variables, self._pattern) for own in segments]
            self._links[subnet] = links(segments, trained)
        return self._links[subnet]


def links(segments: Sequence[Segment], trained: Sequence[bool]) -> tuple[Link, ...]:
    """Segments in order, and what is asked of each where some of them train."""
    found, begun = [], False
    for segment, own in zip(segments, trained, strict=True):
        asked = [name for name, of in (("trainable", own), ("carry", begun)) if of]
        found.append(Link(segment, tuple(asked)))
        begun |= own
    return tuple(found)
