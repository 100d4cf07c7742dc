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

from jax_elastic.elastic.family import BY_HOST, Aux, Draw, Form
from jax_elastic.subnet import Space, Subnet

Array = jax.Array
PyTree = Any
Draws = tuple[Draw, ...] | Draw
Loss = Callable[[PyTree, Draw, Array], tuple[Array, Aux]]
Found = tuple[tuple[Array, Aux], PyTree]
_Gradient = Callable[[PyTree, Draw, Array], Found]


def sum_of_grads(loss: Loss, params: PyTree, draws: Draws, form: Form, space: Space) -> Found:
    """Sums a loss, its aux and its gradients over draws.

    Args:
      loss: (params, draw, slot) -> (scalar, Aux); `slot` int32 () is the draw's place, for keys.
      params: what is differentiated.
      draws: of one step, as `given` hands them to the form.
      form: `sliced` unrolls the draws, each an exact slice of the network. `scan_switch` scans
        over them with a `switch` over all of `space`, the gradient taken inside the branch, so
        one executable serves every combination; for small spaces, and for families that do not
        switch by themselves (see `Switching`). `scan` and `vmap` give the loss
        traced coordinates, one draw after the other in the memory of one, or all at once.
        `host` is `sliced` here; that each draw has a program of its own is `HostChunk`'s doing.
        `staged` does not come here, see `StagedGradients`.
      space: the operating points.

    Returns:
      ((sum of losses, sum of Aux), sum of gradients).
    """
    gradient: _Gradient = jax.value_and_grad(loss, has_aux=True)
    if isinstance(draws, tuple):
        parts = (gradient(params, draw, jnp.int32(j)) for j, draw in enumerate(draws))
        return functools.reduce(added, parts)
    if form == "vmap":
        return _vmapped(gradient, params, draws)
    one = _switched(gradient, space) if form == "scan_switch" else gradient
    return _scanned(one, params, draws)


def given(draws: tuple[Draw, ...], form: Form, space: Space) -> Draws:
    """The draws of one step as a form takes them: static ones apart, traced ones as one."""
    return draws if form in BY_HOST | {"sliced"} else stack_draws(draws, space)


def stack_draws(draws: tuple[Draw, ...], space: Space) -> Draw:
    """Static draws as one traced `Draw`: `where` int32 (J, dims), values with leading axis J."""
    for draw in draws:
        assert draw.subnet is not None
    where = np.stack([space.coords(draw.subnet) for draw in draws if draw.subnet is not None])
    values = jax.tree.map(lambda *leaves: np.stack(leaves), *(draw.values for draw in draws))
    return Draw(None, where, values)


def _scanned(gradient: _Gradient, params: PyTree, draws: Draw) -> Found:
    """The sum over stacked draws; one gradient is all that outlives a draw."""
    rows = (draws, _slots(draws))
    return add_up(lambda draw, slot: gradient(params, draw, slot), rows)  # type: ignore[no-any-return]


def _vmapped(gradient: _Gradient, params: PyTree, draws: Draw) -> Found:
    """The sum over stacked draws, which are computed together."""
    found = jax.vmap(gradient, in_axes=(None, 0, 0))(params, draws, _slots(draws))
    # Or x64 mode would widen integers.
    return jax.tree.map(lambda leaf: leaf.sum(0, dtype=leaf.dtype), found)  # type: ignore[no-any-return]


def _switched(gradient: _Gradient, space: Space) -> _Gradient:
    """The gradient of a traced draw, computed as that of the static one it stands for."""

    def branch(subnet: Subnet) -> Callable[..., Found]:
        return lambda params, values, slot: gradient(params, Draw(subnet, None, values), slot)

    branches = [branch(subnet) for subnet in space]

    def one(params: PyTree, draw: Draw, slot: Array) -> Found:
        assert draw.where is not None
        index = space.index(draw.where)
        return lax.switch(index, branches, params, draw.values, slot)  # type: ignore[no-any-return]

    return one


def _slots(draws: Draw) -> Array:
    assert draws.where is not None
    return jnp.arange(draws.where.shape[0], dtype=jnp.int32)


def add_up(one: Callable[..., Any], rows: tuple[PyTree, ...]) -> Any:
    """The sum of one(*row) over rows, one after the other, in the memory of one.

    Args:
      one: returns a pytree of numbers.
      rows: pytrees whose leaves have one leading axis.
    """
    first = jax.tree.map(lambda a: a[0], rows)
    shapes = jax.eval_shape(one, *first)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = lax.scan(lambda acc, row: (added(acc, one(*row)), None), zeros, rows)
    return total


def added(a: PyTree, b: PyTree) -> PyTree:
    """The sum of two pytrees of numbers, leaf by leaf."""
    return jax.tree.map(jnp.add, a, b)
