"""What families share in which no gate decides and nothing is drawn at test."""

import abc
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp

from jax_elastic.elastic.family import (
    STATIC_FORMS,
    Array,
    Aux,
    Batch,
    Draw,
    Family,
    PyTree,
    Variables,
)
from jax_elastic.errors import UsageError
from jax_elastic.layers import norm
from jax_elastic.subnet import Space, Subnet

DType = Literal["float32", "bfloat16", "float64"]


class Static(abc.ABC):
    """The part of a `Family` that does not depend on the architecture.

    A frozen dataclass that inherits from it has these fields, and calls `__post_init__`:

    Attributes:
      dtype: what activations are computed in. Parameters, statistics and losses are float32,
        but for `float64`, which needs jax's x64 mode and is for checks of equality.
      bn_momentum: weight of the old value when BN statistics are updated.
    """

    dtype: DType
    bn_momentum: float

    def __post_init__(self) -> None:
        if not 0 <= self.bn_momentum < 1:
            raise UsageError(f"bn_momentum {self.bn_momentum:g} is no weight", "in [0, 1)")

    @property
    def subnets(self) -> Space:
        """See `Family`."""
        return Space()

    @property
    def shown(self) -> tuple[Subnet, ...]:
        """See `Family`."""
        return self.subnets.shown()

    @property
    def further(self) -> tuple[Subnet, ...]:
        """See `Family`."""
        return ()

    @property
    def forms(self) -> frozenset[str]:
        """See `Family`."""
        return STATIC_FORMS

    @property
    def candidates(self) -> tuple[Subnet, ...]:
        """See `Family`."""
        return ()

    @property
    def budgets(self) -> tuple[float, ...]:
        """None: it takes no budget."""
        return ()

    @property
    def random(self) -> bool:
        """False: `predict` draws nothing."""
        return False

    @property
    def targets(self) -> tuple[int, ...]:
        """See `Family`: the label levels alone."""
        return cast(Family, self).classes

    def check(self, subnet: Subnet) -> None:
        """See `Family`."""
        self.subnets.check(subnet)

    def init(self, key: Array, images: Array) -> Variables:
        """See `Family`. Numbers are drawn in float32 whatever the dtype.

        Raises:
          UsageError: dtype is float64 and jax's x64 mode is off.
        """
        if jax.dtypes.canonicalize_dtype(self.dtype) != self.dtype:
            raise UsageError("dtype float64 needs jax's x64 mode", next_step="set JAX_ENABLE_X64=1")
        fresh = self._init(key, jnp.zeros(images.shape, jnp.float32))
        wide = jnp.float64 if self.dtype == "float64" else jnp.float32

        def widen(leaf: Array) -> Array:
            return leaf.astype(wide) if leaf.dtype == jnp.float32 else leaf

        return {name: jax.tree.map(widen, fresh[name]) for name in ("params", "stats")}  # type: ignore[return-value]

    def moments(
        self,
        variables: Variables,
        images: Array,
        subnet: Subnet,
        budget: Array | float | None,
        key: Array | None = None,
    ) -> PyTree:
        """See `Family`: those of the loss, which draws nothing that a BN layer sees.

        It is asked for the last of `Family.objectives`.
        """
        del budget, key
        network, size = cast(Family, self), len(images)
        targets = tuple(jnp.zeros((size, classes)) for classes in network.targets)
        batch: Batch = {"image": images, "targets": targets, "mask": jnp.ones(size)}
        objective = network.objectives[-1]
        draw, none = Draw(subnet), jax.random.key(0)
        return network.loss(variables, batch, draw, none, objective, "batch")[1].moments

    @abc.abstractmethod
    def _init(self, key: Array, images: Array) -> Any:
        """Fresh variables in float32, for images (B, H, W, C) of zeros."""

    def fold(self, stats: PyTree, aux: Aux) -> PyTree:
        """See `Family`."""
        return norm.fold(stats, aux.moments, self.bn_momentum)
