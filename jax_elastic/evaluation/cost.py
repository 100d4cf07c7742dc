"""What operating points cost, by segments: each distinct segment is walked once (law 2)."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jax_elastic.elastic.family import Carry, Family, GatedCode, Segment
from jax_elastic.elastic.segments import first_carry
from jax_elastic.macs import Cost, count_jaxpr, count_macs
from jax_elastic.subnet import Subnet

PyTree = Any

KINDS = {"gate": "params_gates", "bn": "params_bn", "classifier": "params_classifiers"}
"""A parameter is of a kind if a part of its path starts with that word; a plan's are gates too."""


class CostModel:
    """MACs and parameters of a network's operating points, for one image.

    Nominal costs are those of `network.reference()`; build it with the network itself by
    `executed=True` for what its fast form computes. Costs of equal segments are remembered.

    Args:
      network: the family.
      image_shape: (H, W, channels).
      executed: count the form that runs instead of the reference form.
    """

    def __init__(self, network: Family, image_shape: tuple[int, ...], executed: bool = False):
        self._network = network if executed else network.reference()
        self._candidates = network.candidates
        self._image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        self._variables = jax.eval_shape(self._network.init, jax.random.key(0), self._image)
        self._costs: dict[Subnet, Cost] = {}
        self._own: dict[str, PyTree] = {}
        self._walked: dict[Any, tuple[int, int, int, Carry]] = {}

    def cost(self, subnet: Subnet) -> Cost:
        """The MACs of one image at an operating point.

        Raises:
          UsageError: the network does not have it.
        """
        if subnet not in self._costs:
            self._costs[subnet] = self._add_up(subnet)
        return self._costs[subnet]

    def of_images(
        self,
        subnet: Subnet,
        shape: tuple[int, ...],
        opened: npt.ArrayLike | None,
        choice: npt.ArrayLike | None,
    ) -> npt.NDArray[np.float64]:
        """MACs of each image at an operating point.

        Args:
          subnet: the point.
          shape: of the images, e.g. (n,) or (draws, n).
          opened: bool (*shape, N), which blocks each image ran; None without gates.
          choice: int (*shape), what each chose of the network's candidates; None without.

        Returns:
          `shape`.

        Raises:
          UsageError: the network does not have it.
        """
        cost = self.cost(subnet)
        if choice is not None:
            full = np.array([self.cost(point).full for point in self._candidates], np.float64)
            chosen: npt.NDArray[np.float64] = full[np.asarray(choice)]
            return chosen + cost.gates
        if opened is not None:
            return cost.of(np.asarray(opened))
        return np.full(shape, float(cost.full))

    def _add_up(self, subnet: Subnet) -> Cost:
        self._network.check(subnet)
        carry = self._first_carry()
        fixed, gates, blocks = 0, 0, []
        for segment in self._network.segments(subnet):
            skipped, opened, gate, carry = self._walk(segment, carry)
            if segment.role == "gated":
                fixed += skipped
                blocks.append(opened - skipped)
                gates += gate
            elif segment.role == "plan":
                gates += opened
            else:
                fixed += opened
        return Cost(fixed, tuple(blocks), gates)

    def stages(self, subnet: Subnet) -> tuple[int, ...]:
        """How many gated blocks each stage has: those in a row that hand on arrays of one shape.

        Raises:
          UsageError: the network does not have the operating point.
        """
        self._network.check(subnet)
        carry, shapes = self._first_carry(), []
        for segment in self._network.segments(subnet):
            *_, carry = self._walk(segment, carry)
            if segment.role == "gated":
                shapes.append(_shape_key(carry))
        return tuple(len(list(stage)) for _, stage in itertools.groupby(shapes))

    def _first_carry(self) -> Carry:
        budget = jax.ShapeDtypeStruct((1,), jnp.float32) if self._network.budgets else None
        keys = jax.eval_shape(_one_key) if self._network.random else None
        return first_carry(self._image, budget, keys)

    def params(self, subnet: Subnet) -> dict[str, int]:
        """How many parameters an operating point reads: `params`, and of these by kind."""
        self._network.check(subnet)
        counts = {"params": 0, **dict.fromkeys(KINDS.values(), 0)}
        for segment in self._network.segments(subnet):
            own = self._take(segment).get("params", {})
            for path, leaf in jax.tree_util.tree_leaves_with_path(own):
                counts["params"] += leaf.size
                for kind in _kinds(segment, path):
                    counts[kind] += leaf.size
        return counts

    def _take(self, segment: Segment) -> PyTree:
        # Equal names take equal arrays, so the shapes are remembered by name.
        if segment.name not in self._own:
            self._own[segment.name] = jax.eval_shape(segment.take, self._variables)
        return self._own[segment.name]

    def _walk(self, segment: Segment, carry: Carry) -> tuple[int, int, int, Carry]:
        """MACs of (skip, open, gate), and the shapes of what the segment hands on."""
        own = self._take(segment)
        key = (segment.code, segment.role, _shape_key(own), _shape_key(carry))
        if key not in self._walked:
            code: Any = segment.code
            skipped = gate = 0
            if segment.role == "gated":
                skipped, gate = self._walk_gated(code, own, carry)
            walked, after = jax.make_jaxpr(code.open, return_shape=True)(own, carry)
            self._walked[key] = skipped, count_jaxpr(walked), gate, after
        return self._walked[key]

    def _walk_gated(self, code: GatedCode, own: PyTree, carry: Carry) -> tuple[int, int]:
        budget = jax.ShapeDtypeStruct((), jnp.float32)
        return count_macs(code.skip, own, carry), count_macs(code.gate, own, carry, budget)


def _one_key() -> jax.Array:
    return jax.random.split(jax.random.key(0), 1)


def _shape_key(tree: PyTree) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


def _kinds(segment: Segment, path: tuple[Any, ...]) -> set[str]:
    names = [str(getattr(part, "key", part)) for part in path]
    kinds = {kind for word, kind in KINDS.items() if any(n.startswith(word) for n in names)}
    return kinds | {"params_gates"} if segment.role == "plan" else kinds
