"""Predictions at many operating points that share segments: each runs once for all that share it.

A jitted `Family.predict` is one program of all points it is asked about, which for combinations of
choices grows with their product. Here each segment is a program of its own.
"""

from collections.abc import Callable
from functools import partial

import jax

from jax_elastic.elastic.family import Array, Carry, Family, Prediction, Segment, Variables
from jax_elastic.elastic.segments import first_carry
from jax_elastic.subnet import Subnet

Predict = Callable[..., tuple[Prediction, ...]]
"""What takes the arguments of `Family.predict`."""


def combines(network: Family) -> bool:
    """Whether operating points are combinations of choices, with nothing decided for an image."""
    gated = any(segment.role != "fixed" for segment in network.segments(network.subnets.fullest))
    return len(network.subnets.dims) > 1 and not (gated or network.random or network.budgets)


def predictor(network: Family) -> Predict:
    """What computes a network's predictions: `BySegments` where it `combines`, else one program."""
    return BySegments(network) if combines(network) else jax.jit(network.predict, static_argnums=2)


class BySegments:
    """What `Family.predict` gives, of a network that `combines`, by programs of its segments.

    A segment is compiled once for each shape of what it is given. What points in a row begin with
    is computed once, so give them in the order of their space.

    Args:
      network: the family.

    Attributes:
      run: the jitted run of one segment.
    """

    def __init__(self, network: Family):
        self._network = network
        self._segments: dict[Subnet, tuple[Segment, ...]] = {}

        @partial(jax.jit, static_argnames="segment")
        def run(variables: Variables, carry: Carry, segment: Segment) -> Carry:
            return segment.code.open(segment.take(variables), carry)

        self.run = run

    def __call__(
        self,
        variables: Variables,
        images: Array,
        subnets: tuple[Subnet, ...],
        budget: Array | float | None = None,
        key: Array | None = None,
    ) -> tuple[Prediction, ...]:
        """See `Family.predict`."""
        del budget, key
        found = []
        done: list[tuple[Segment, Carry]] = []
        for subnet in subnets:
            segments = self._of(subnet)
            same = 0
            while same < min(len(done), len(segments)) and done[same][0] == segments[same]:
                same += 1
            del done[same:]
            for segment in segments[same:]:
                carry = done[-1][1] if done else first_carry(images, None, None)
                done.append((segment, self.run(variables, carry, segment=segment)))
            found.append(Prediction(done[-1][1]["logits"]))
        return tuple(found)

    def _of(self, subnet: Subnet) -> tuple[Segment, ...]:
        # Programs are found by the segments they are of, quickest where those are the same.
        if subnet not in self._segments:
            self._segments[subnet] = self._network.segments(subnet)
        return self._segments[subnet]
