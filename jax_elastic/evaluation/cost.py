"""What operating points cost, by segments: each distinct segment is walked once (law 2)."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jax_elastic.elastic.family import Carry, Code, Family, GatedCode, Segment, Variables
from jax_elastic.elastic.segments import first_carry
from jax_elastic.elastic.shapes import fresh_shapes
from jax_elastic.macs import Cost, count_jaxpr, count_macs
from jax_elastic.subnet import Subnet

PyTree = Any

KINDS = {"gate": "params_gates", "bn": "params_bn", "classifier": "params_classifiers"}
"""A parameter is of a kind if a part of its path starts with that word; a plan's are gates too."""
PARAMS = ("params", *KINDS.values())


@dataclasses.dataclass(frozen=True)
class _Step:
    """A segment at one place: what it costs, and the place of what it hands on.

    Attributes:
      segment: what runs.
      skipped: MACs of the shortcut alone; 0 unless it is gated.
      opened: MACs where it runs.
      gate: MACs of its gate; 0 unless it is gated.
      params: parameters it reads, and of these by kind, in the order of `PARAMS`.
      after: place of what it hands on: an index into the shapes that were met.
    """

    segment: Segment
    skipped: int
    opened: int
    gate: int
    params: tuple[int, ...]
    after: int


class CostModel:
    """MACs and parameters of a network's operating points, for one image.

    Nominal costs are those of `network.reference()`; build it with the network itself by
    `executed=True` for what its fast form computes. A segment is traced once for each shape of what
    it is given, so that of any number of operating points each is a sum of what is known.

    Args:
      network: the family.
      image_shape: (H, W, channels).
      executed: count the form that runs instead of the reference form.
    """

    def __init__(self, network: Family, image_shape: tuple[int, ...], executed: bool = False):
        self._network = network if executed else network.reference()
        self._candidates = network.candidates
        self._image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        self._variables = fresh_shapes(self._network, image_shape)
        self._paths: dict[Subnet, tuple[_Step, ...]] = {}
        self._steps: dict[tuple[str, Code, int], _Step] = {}
        self._own: dict[str, PyTree] = {}
        self._walked: dict[Any, tuple[int, int, int, Carry]] = {}
        # Shapes of carries are compared once, where they are met; a place is an index into them.
        self._carries: list[Carry] = []
        self._places: dict[Any, int] = {}
        self._start = self._place(self._first_carry())

    def cost(self, subnet: Subnet) -> Cost:
        """The MACs of one image at an operating point.

        Raises:
          UsageError: the network does not have it.
        """
        fixed, gates, blocks = 0, 0, []
        for step in self._path(subnet):
            if step.segment.role == "gated":
                fixed += step.skipped
                blocks.append(step.opened - step.skipped)
                gates += step.gate
            elif step.segment.role == "plan":
                gates += step.opened
            else:
                fixed += step.opened
        return Cost(fixed, tuple(blocks), gates)

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
          choice: int (*shape), what each chose of the network's candidates; None without. Where
            gates run what was chosen, they tell all.

        Returns:
          `shape`.

        Raises:
          UsageError: the network does not have it.
        """
        cost = self.cost(subnet)
        if opened is not None:
            return cost.of(np.asarray(opened))
        if choice is not None:
            return self.of_choice(choice) + cost.gates
        return np.full(shape, float(cost.full))

    def of_choice(self, choice: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """MACs of what each image chose alone, without what it took to choose.

        Args:
          choice: int, any shape, of the network's candidates.

        Returns:
          The same shape.
        """
        full = np.array([self.cost(point).full for point in self._candidates], np.float64)
        chosen: npt.NDArray[np.float64] = full[np.asarray(choice)]
        return chosen

    def most(self, subnet: Subnet) -> int:
        """The MACs of an image that costs most: every block open, or of candidates the dearest.

        Raises:
          UsageError: the network does not have the operating point.
        """
        cost = self.cost(subnet)
        if self._candidates and cost.blocks:
            return cost.fixed + cost.gates + max(cost.blocks)
        return cost.full

    def undecided(self, subnet: Subnet) -> int:
        """The MACs of an image where nothing is decided: of `most`, all but what decides.

        Of a network that only drops blocks these are the plain network's.

        Raises:
          UsageError: the network does not have the operating point.
        """
        return self.most(subnet) - self.cost(subnet).gates

    def blocks(self, subnet: Subnet) -> tuple[tuple[str, ...], ...]:
        """The names of the blocks of each stage: the gated ones, and what always runs among them.

        That is, all from the first gated one on, but a last one that always runs: the head. A stage
        is those in a row that hand on arrays of one shape.

        Raises:
          UsageError: the network does not have the operating point.
        """
        path = self._path(subnet)
        gated = [step.segment.role == "gated" for step in path]
        if not any(gated):
            return ()
        blocks = path[gated.index(True) : None if gated[-1] else -1]
        stages = itertools.groupby(blocks, lambda step: step.after)
        return tuple(tuple(step.segment.name for step in stage) for _, stage in stages)

    def params(self, subnet: Subnet) -> dict[str, int]:
        """How many parameters an operating point reads: `params`, and of these by kind.

        Raises:
          UsageError: the network does not have the operating point.
        """
        if self._candidates:
            return self._distinct_params(subnet)
        counts = zip(*(step.params for step in self._path(subnet)), strict=True)
        return dict(zip(PARAMS, map(sum, counts), strict=True))

    def _distinct_params(self, subnet: Subnet) -> dict[str, int]:
        """The same where segments may read the same arrays: of numbered parameters each once."""
        leaves, structure = jax.tree.flatten(self._variables["params"])
        bounds = np.cumsum([0, *(leaf.size for leaf in leaves)])
        numbers = [
            np.arange(start, start + leaf.size, dtype=np.int32).reshape(leaf.shape)
            for start, leaf in zip(bounds, leaves, strict=False)
        ]
        stats = jax.tree.map(lambda leaf: np.broadcast_to(0, leaf.shape), self._variables["stats"])
        numbered: Variables = {"params": jax.tree.unflatten(structure, numbers), "stats": stats}
        read = {kind: np.zeros(bounds[-1], bool) for kind in PARAMS}
        for step in self._path(subnet):
            own = step.segment.take(numbered)
            for path, leaf in jax.tree_util.tree_leaves_with_path(own.get("params", {})):
                for kind in ("params", *_kinds(step.segment, path)):
                    read[kind][np.ravel(leaf)] = True
        return {kind: int(mask.sum()) for kind, mask in read.items()}

    def _path(self, subnet: Subnet) -> tuple[_Step, ...]:
        """What runs at an operating point."""
        if subnet not in self._paths:
            self._network.check(subnet)
            place, path = self._start, []
            for segment in self._network.segments(subnet):
                path.append(self._step(segment, place))
                place = path[-1].after
            self._paths[subnet] = tuple(path)
        return self._paths[subnet]

    def _step(self, segment: Segment, place: int) -> _Step:
        key = (segment.name, segment.code, place)
        if key not in self._steps:
            skipped, opened, gate, carry = self._walk(segment, self._carries[place])
            params = _count_params(segment, self._take(segment))
            self._steps[key] = _Step(segment, skipped, opened, gate, params, self._place(carry))
        return self._steps[key]

    def _place(self, carry: Carry) -> int:
        key = _shape_key(carry)
        if key not in self._places:
            self._places[key] = len(self._carries)
            self._carries.append(carry)
        return self._places[key]

    def _first_carry(self) -> Carry:
        budget = jax.ShapeDtypeStruct((1,), jnp.float32) if self._network.budgets else None
        keys = jax.eval_shape(_one_key) if self._network.random else None
        return first_carry(self._image, budget, keys)

    def _take(self, segment: Segment) -> PyTree:
        if segment.name not in self._own:
            self._own[segment.name] = jax.eval_shape(segment.take, self._variables)
        return self._own[segment.name]

    def _walk(self, segment: Segment, carry: Carry) -> tuple[int, int, int, Carry]:
        """MACs of (skip, open, gate), and the shapes of what the segment hands on."""
        own = self._take(segment)
        # Segments of other names may compute the same.
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


def _count_params(segment: Segment, own: PyTree) -> tuple[int, ...]:
    counts = dict.fromkeys(PARAMS, 0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(own.get("params", {})):
        for kind in ("params", *_kinds(segment, path)):
            counts[kind] += leaf.size
    return tuple(counts.values())


def _kinds(segment: Segment, path: tuple[Any, ...]) -> set[str]:
    names = [str(getattr(part, "key", part)) for part in path]
    kinds = {kind for word, kind in KINDS.items() if any(n.startswith(word) for n in names)}
    return kinds | {"params_gates"} if segment.role == "plan" else kinds
