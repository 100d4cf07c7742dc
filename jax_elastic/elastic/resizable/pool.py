"""The candidates among which images choose: operating points of a resizable network, by cost."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jax_elastic.elastic.family import Array, Variables
from jax_elastic.elastic.resizable.resizable import AXIS, Resizable
from jax_elastic.errors import UsageError
from jax_elastic.macs import count_macs
from jax_elastic.subnet import Subnet

MOST = 16
"""Candidates of a pool, see docs/choices.md R6."""


def read_pool(base: Resizable, text: str) -> tuple[Subnet, ...]:
    """The candidates of a pool, in its order.

    Args:
      base: the network.
      text: operating points of it, separated by ``;``. Empty: for each scale, ascending, the point
        that has it everywhere.

    Raises:
      UsageError: fewer than 2 or more than `MOST`, one twice, or one that the network lacks.
    """
    places = len(base.subnets.dims)
    uniform = tuple(Subnet(AXIS, (scale,) * places) for scale in base.scales)
    points = tuple(Subnet.parse(part) for part in text.split(";")) if text else uniform
    for point in points:
        base.check(point)
    twice = [point for point in points if points.count(point) > 1]
    if twice:
        raise UsageError(f"the pool has {twice[0]} twice", "each candidate once")
    if not 2 <= len(points) <= MOST:
        raise UsageError(
            f"the pool has {len(points)} candidate{'s' if len(points) > 1 else ''}",
            f"2 to {MOST} operating points of the base, separated by ;",
            f"for example {uniform[0]};{uniform[-1]}",
        )
    return points


def by_macs(base: Resizable, points: tuple[Subnet, ...]) -> tuple[Subnet, ...]:
    """Operating points of a network, cheapest first; of equal cost in the order given."""
    counted = dataclasses.replace(base.reference(), dtype="float32")
    return tuple(sorted(points, key=functools.partial(_macs, counted)))


@functools.lru_cache(1024)
def _macs(network: Resizable, subnet: Subnet) -> int:
    """What an operating point costs for an image of the network's side, of three channels.

    Other channels change the stem, which costs the same at every point or grows with its scale.
    """
    image = jax.ShapeDtypeStruct((1, network.side, network.side, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), image)

    def predict(variables: Variables, images: Array) -> tuple[Array, ...]:
        return network.predict(variables, images, (subnet,), None)[0].logits

    return count_macs(predict, variables, image)
