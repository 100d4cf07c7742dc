"""Batch normalisation whose statistics are additive: a forward emits moments, `fold` uses them.

A training step may run the same layer several times (one pass per sub-network). Each pass sows
``{mean, var, n}`` into the collection `moments`; passes are added like gradients, and one `fold`
per step divides by `n` and applies the momentum once. So a layer that m passes share is updated
once per step, and layers with banks (one set per scale or width) update the banks they used.
`pool` makes the moments of many batches those of all their images, which a `fold` without momentum
takes for the statistics.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
PyTree = Any

MOMENTUM = 0.9
EPSILON = 1e-5


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last.

    Parameters `scale` and `bias`, statistics `mean`, `var` (float32) and `count` (int32, the
    updates seen) have a leading bank axis if `banks` is given. Statistics are computed in at
    least float32 and the result has the input's dtype. Under `jit` with a sharded batch the
    moments are those of the global batch.

    Attributes:
      banks: number of statistic sets, or None for a single one without a bank axis.

    References:
      Ioffe and Szegedy 2015; banks: Resizable networks, section 3 (scale-aware BN).
    """

    banks: int | None = None

    @nn.compact
    def __call__(
        self, x: Array, bn: Literal["batch", "running"], bank: int | Array | None = None
    ) -> Array:
        """Normalises `x` (..., C) with the moments of the batch or with running statistics.

        Args:
          x: (..., C), any float dtype.
          bn: `batch` sows this pass's moments; `running` reads the statistics.
          bank: which bank, static or traced int (); needed iff `banks` is set.
        """
        if (bank is None) != (self.banks is None):
            raise ValueError(f"BatchNorm with banks={self.banks} was called with bank={bank}")
        if self.banks is not None and isinstance(bank, int) and not 0 <= bank < self.banks:
            raise ValueError(f"bank {bank} is not one of {self.banks}")
        lead = () if self.banks is None else (self.banks,)
        shape = (*lead, x.shape[-1])
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, shape, jnp.float32)
        mean = self.variable("stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("stats", "var", jnp.ones, shape, jnp.float32)
        self.variable("stats", "count", jnp.zeros, lead, jnp.int32)

        def of_bank(a: Array) -> Array:
            return a if bank is None else a[bank]

        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if bn == "batch":
            axes = tuple(range(x.ndim - 1))
            m = wide.mean(axes)
            v = jnp.square(wide - m).mean(axes)
            self._sow(m, v, bank)
        else:
            m, v = of_bank(mean.value), of_bank(var.value)
        normalised = (wide - m) * (jax.lax.rsqrt(v + EPSILON) * of_bank(scale)) + of_bank(bias)
        return normalised.astype(x.dtype)

    def _sow(self, mean: Array, var: Array, bank: int | Array | None) -> None:
        hot = jnp.ones((), jnp.int32)
        if self.banks is not None and bank is not None:
            hot = jnp.equal(jnp.arange(self.banks), bank).astype(jnp.int32)
        spread = hot[..., None].astype(mean.dtype)
        for name, moment in (("mean", spread * mean), ("var", spread * var), ("n", hot)):
            self.sow("moments", name, moment, reduce_fn=jnp.add, init_fn=_zero)


def _zero() -> Any:
    return 0


def is_bn(node: Any) -> bool:
    """Whether a node of a tree of statistics is one BN layer's."""
    return isinstance(node, Mapping) and "count" in node and "var" in node


def complete_moments(stats: PyTree, moments: PyTree) -> PyTree:
    """Moments for every BN in `stats`: those of `moments`, zero where a layer did not run.

    A family calls it at the end of its loss, so that the moments of all its draws have one
    structure and can be added.
    """
    if is_bn(stats):
        if moments:
            return {name: moments[name] for name in ("mean", "var", "n")}
        zeros = jax.tree.map(jnp.zeros_like, stats)
        return {"mean": zeros["mean"], "var": zeros["var"], "n": zeros["count"]}
    return {
        name: complete_moments(node, (moments or {}).get(name))
        for name, node in stats.items()
        if isinstance(node, Mapping)
    }


def fold(stats: PyTree, moments: PyTree, momentum: float = MOMENTUM) -> PyTree:
    """Running statistics after one step.

    Args:
      stats: a tree whose BN nodes are ``{mean, var (..., C), count (...)}``; other leaves are kept.
      moments: the added moments of the step's passes, ``{mean, var, n}`` at the same places. n is
        of the shape of `count`, or of `mean` where passes differ in the channels that they have.
      momentum: weight of the old value; 0 forgets it, whatever it was.

    Returns:
      `stats` with ``momentum * old + (1 - momentum) * moment / n`` and `count + 1` where n > 0;
      elsewhere unchanged.
    """
    if not is_bn(stats):
        return {
            name: fold(node, moments[name], momentum) if isinstance(node, Mapping) else node
            for name, node in stats.items()
        }
    n = moments["n"]
    by_channel = n if n.ndim == moments["mean"].ndim else n[..., None]
    seen = n > 0 if by_channel is not n else (n > 0).any(-1)

    def update(old: Array, moment: Array) -> Array:
        passes = jnp.maximum(by_channel, 1)
        new = (moment / passes).astype(old.dtype)
        if momentum:
            new = momentum * old + (1 - momentum) * new
        return jnp.where(by_channel > 0, new, old)

    return {
        "mean": update(stats["mean"], moments["mean"]),
        "var": update(stats["var"], moments["var"]),
        "count": stats["count"] + seen.astype(stats["count"].dtype),
    }


def pool(batches: Iterable[PyTree]) -> PyTree:
    """The moments of several batches as those of all their images.

    The variance is that within the batches and that between their means, so that it does not
    matter which images came together. Nor does the order, but for the rounding of float64 sums.

    Args:
      batches: the moments ``{mean, var, n}`` of one pass over each batch, all of one size; n is 0
        or 1. They are read one by one.

    Returns:
      The same trees of NumPy arrays, mean and var float64 times the n that they are divided by: as
      added moments are.
    """
    add = functools.partial(jax.tree.map, np.add)
    squares = (_by_layer(_squared, moments) for moments in batches)
    return _by_layer(_centred, functools.reduce(add, squares))


def _by_layer(rule: Any, moments: PyTree) -> PyTree:
    """Applies a rule to the moments of each BN layer."""
    if "n" in moments:
        return rule(moments)
    return {name: _by_layer(rule, node) for name, node in moments.items()}


def _squared(own: PyTree) -> PyTree:
    """A layer's moments with the mean square of what it saw in place of the variance."""
    mean, var = (np.asarray(own[name], np.float64) for name in ("mean", "var"))
    return {"mean": mean, "var": var + mean**2, "n": np.asarray(own["n"], np.int64)}


def _centred(own: PyTree) -> PyTree:
    """The inverse of `_squared`, of added moments."""
    n = own["n"] if own["n"].ndim == own["mean"].ndim else own["n"][..., None]
    var = own["var"] - own["mean"] ** 2 / np.maximum(n, 1)
    return {**own, "var": np.maximum(var, 0)}
