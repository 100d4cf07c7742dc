"""What the benchmark of skipping runs: a network with gates, its engines, and patterns of gates."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks.gate_patterns import NETWORKS, PATTERNS, Gates
from jax_elastic.data.augment import normalise
from jax_elastic.data.datasets import load as load_split
from jax_elastic.elastic.family import Array, Family, Variables
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.points import CAPACITY, all_blocks, gated_codes
from jax_elastic.elastic.segments import first_carry
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.pretrained import pretrained
from jax_elastic.inference.timing import Floats
from jax_elastic.subnet import FULL, Subnet

TRAINED = "urnet_digits"
OWN = "its own"  # the pattern of trained gates
DENSE = ("dense, segments", "dense, forward")
PLAN = "plan alone"
VARIED = 4  # patterns that take turns
SPENT = 0.5  # the budget where the gates are given


@dataclasses.dataclass(frozen=True)
class Call:
    """A line of the table.

    Attributes:
      engine: what runs.
      batch_size: images.
      pattern: of the open blocks; empty where all are open.
      keep: share of the blocks that was asked for.
    """

    engine: str
    batch_size: int
    pattern: str = ""
    keep: float = 1.0


@dataclasses.dataclass(frozen=True)
class Work:
    """What a call does.

    Attributes:
      run: runs once, each time on the next pattern, and waits.
      macs: nominal, per image, on average over the patterns.
      executed: the same of what was computed.
      keep: share of the blocks that was open.
    """

    run: Callable[[], object]
    macs: float
    executed: float
    keep: float


class Subject:
    """A network, what it costs, and everything that runs it.

    Args:
      name: in `NETWORKS`, or `TRAINED`.
    """

    def __init__(self, name: str):
        self.trained = name == TRAINED
        self._network: Family
        self._variables: Variables
        if self.trained:
            self._network, self._variables, experiment = pretrained(name)
            split = load_split(experiment.data, "validation").images
            self._images = normalise(jnp.asarray(split), experiment.data)
        else:
            self._network, self._variables = NETWORKS[name].network, NETWORKS[name].variables()
            self._images = NETWORKS[name].images(256)
        self._costs = CostModel(self._network, self._images.shape[1:])
        self._codes = gated_codes(self._network, FULL)
        self._all = cast(Subnet, all_blocks(self._network))
        # One of each name, because an engine remembers its calibrations.
        self._engine = functools.cache(
            partial(build_engine, self._network, self._variables, subnets=[])
        )

    def dense(self, size: int) -> dict[Call, Work]:
        """The network with all blocks and no gates, in both forms."""
        macs = float(self._costs.cost(self._all).full)
        return {
            Call(name, size): Work(run, macs, macs, 1.0)
            for name, run in zip(DENSE, self._dense(size), strict=True)
        }

    def plan(self, size: int) -> dict[Call, Work]:
        """What decides before the blocks, by itself; nothing where that costs nothing."""
        macs = float(self._costs.cost(FULL).gates)
        if not macs:
            return {}
        images, keys = self._batch(size, 0)
        budget = jnp.full(size, SPENT, jnp.float32) if self._network.budgets else None
        carry = first_carry(images, budget, keys)
        for segment in self._network.segments(FULL):
            own = segment.take(self._variables)
            run = jax.jit(segment.code.open)
            if segment.role == "plan":
                timed = partial(_waited, run, own, carry)
                return {Call(PLAN, size): Work(timed, macs, macs, 1.0)}
            if segment.role == "gated":
                break
            carry = run(own, carry)
        return {}

    def groups(
        self, engines: Sequence[str], size: int, patterns: Sequence[str], keeps: Sequence[float]
    ) -> Iterator[dict[Call, Work]]:
        """What is timed together: an engine under one kind of pattern."""
        for engine, pattern in itertools.product(engines, patterns):
            # A single image is in no order with others; a capacity has a pattern of its own; and
            # what is masked takes as long under any.
            only_first = size == 1 or engine in (CAPACITY, "masked")
            if (only_first and pattern != patterns[0]) or (size == 1 and engine == CAPACITY):
                continue
            shown = keeps[:1] if engine == "masked" else keeps
            calls = [Call(engine, size, pattern, keep) for keep in shown]
            yield {call: self._work(call) for call in calls}

    def _batch(self, size: int, i: int) -> tuple[Array, Array | None]:
        """The i-th images, and their keys."""
        places = (i * size + np.arange(size)) % len(self._images)
        keys = jax.random.split(jax.random.key(i), size) if self._network.random else None
        return self._images[places], keys

    def _dense(self, size: int) -> tuple[Callable[[], object], Callable[[], object]]:
        """All blocks without gates: by segments, and as the plain network's own forward."""
        images, keys = self._batch(size, 0)
        engine = self._engine("static")
        network = cast(Plain, self._network)
        plain = Plain(network.backbone, network.dtype)
        forward = jax.jit(plain.predict, static_argnums=2)
        variables = _known_to(plain, self._variables, images)
        return (
            lambda: jax.block_until_ready(engine(images, self._all, keys=keys)),
            lambda: jax.block_until_ready(forward(variables, images, (FULL,), None)),
        )

    def _work(self, call: Call) -> Work:
        point, size = FULL, call.batch_size
        name = call.engine
        if name == CAPACITY:
            point, name = Subnet(CAPACITY, (call.keep,)), "compacted"
        engine = self._engine(name, usage=call.keep if name == "auto" else None)
        asked = call.keep if self.trained else SPENT
        budget = asked if self._network.budgets else None
        batches = [self._batch(size, i) for i in range(VARIED)]
        given: list[Any] = [None] * VARIED
        if call.engine != CAPACITY and not self.trained:
            # The same patterns for every engine.
            rng = np.random.default_rng(0)
            given = [self._pattern(rng, call) for _ in range(VARIED)]
        opened = [
            np.asarray(engine(images, point, budget, gates, keys).gates) >= 0
            if gates is None
            else np.asarray(gates)
            for (images, keys), gates in zip(batches, given, strict=True)
        ]
        counts = np.stack([gates.sum(0) for gates in opened])
        way = engine.way(batches[0][0], point, budget, batches[0][1])
        computed = [way.computed(code, counts[:, n], size) for n, code in enumerate(self._codes)]
        turns = itertools.cycle(zip(batches, given, strict=True))

        def run() -> object:
            (images, keys), gates = next(turns)
            return jax.block_until_ready(engine(images, point, budget, gates, keys))

        return Work(
            run,
            self._macs(counts / size),
            self._macs(np.stack(computed, 1) / size),
            float(counts.mean() / size),
        )

    def _pattern(self, rng: np.random.Generator, call: Call) -> Array:
        drawn: Gates = PATTERNS[call.pattern](rng, call.batch_size, len(self._codes), call.keep)
        return jnp.asarray(drawn)

    def _macs(self, shares: Floats) -> float:
        """MACs per image where blocks run for shares (patterns, N) of them."""
        cost = self._costs.cost(FULL)
        return cost.fixed + cost.gates + float((shares @ np.array(cost.blocks, float)).mean())


def _known_to(plain: Plain, variables: Variables, images: Array) -> Variables:
    """The variables that the plain network has, too."""
    fresh = jax.eval_shape(plain.init, jax.random.key(0), images[:1])
    flat = flatten_dict(cast(dict[str, Any], variables))
    kept = {path: flat[path] for path in flatten_dict(cast(dict[str, Any], fresh))}
    return cast(Variables, unflatten_dict(kept))


def _waited(run: Callable[..., object], *args: object) -> object:
    return jax.block_until_ready(run(*args))
