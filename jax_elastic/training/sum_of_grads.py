"""Several sub-networks in one step: the summed gradients of several draws.

It serves every family: one draw (URNet, SGAD, IS-ResNeXt), K nested widths (anytime loss), m
resolutions (fair sampling). The forms are equal in float64; which is fastest is measured.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_elastic.elastic.family import Aux, Draw, Form
from jax_elastic.subnet import Space

Array = jax.Array
PyTree = Any
Loss = Callable[[PyTree, Draw, Array], tuple[Array, Aux]]


def sum_of_grads(
    loss: Loss, params: PyTree, draws: tuple[Draw, ...] | Draw, form: Form, space: Space
) -> tuple[tuple[Array, Aux], PyTree]:
    """Sums a loss, its aux and its gradients over draws.

    Args:
      loss: (params, draw, slot) -> (scalar, Aux); `slot` int32 () is the draw's place, for keys.
      params: what is differentiated.
      draws: `sliced`: a tuple of static draws. `scan_switch`: one `Draw` stacked by
        `stack_draws`, with `where` int32 (J, dims).
      form: `sliced` unrolls the draws, each an exact slice of the network. `scan_switch` scans
        over them with a `switch` over all of `space`, the gradient taken inside the branch, so
        one executable serves every combination; for small spaces.
      space: the operating points.

    Returns:
      ((sum of losses, sum of Aux), sum of gradients).
    """
    value_and_grad = jax.value_and_grad(loss, has_aux=True)
    if form == "sliced":
        assert isinstance(draws, tuple)
        parts = (value_and_grad(params, draw, jnp.int32(j)) for j, draw in enumerate(draws))
        return functools.reduce(_add, parts)
    assert isinstance(draws, Draw)
    return _scan_switch(value_and_grad, params, draws, space)


def _scan_switch(
    value_and_grad: Callable[..., Any], params: PyTree, draws: Draw, space: Space
) -> tuple[tuple[Array, Aux], PyTree]:
    def branch(subnet: Any) -> Callable[..., Any]:
        def run(params: PyTree, values: dict[str, Any], slot: Array) -> Any:
            return value_and_grad(params, Draw(subnet, None, values), slot)

        return run

    branches = [branch(subnet) for subnet in space]

    def one(draw: Draw, slot: Array) -> Any:
        assert draw.where is not None
        return lax.switch(space.index(draw.where), branches, params, draw.values, slot)

    assert draws.where is not None
    slots = jnp.arange(draws.where.shape[0], dtype=jnp.int32)
    return add_up(one, (draws, slots))  # type: ignore[no-any-return]


def add_up(one: Callable[..., Any], rows: tuple[PyTree, ...]) -> Any:
    """The sum of one(*row) over rows, one after the other, in the memory of one.

    Args:
      one: returns a pytree of numbers.
      rows: pytrees whose leaves have one leading axis.
    """
    first = jax.tree.map(lambda a: a[0], rows)
    shapes = jax.eval_shape(one, *first)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = lax.scan(lambda acc, row: (_add(acc, one(*row)), None), zeros, rows)
    return total


def stack_draws(draws: tuple[Draw, ...], space: Space) -> Draw:
    """Static draws as one traced `Draw`: `where` int32 (J, dims), values with leading axis J."""
    for draw in draws:
        assert draw.subnet is not None
    where = np.stack([space.coords(draw.subnet) for draw in draws if draw.subnet is not None])
    values = jax.tree.map(lambda *leaves: np.stack(leaves), *(draw.values for draw in draws))
    return Draw(None, where, values)


def _add(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, a, b)
