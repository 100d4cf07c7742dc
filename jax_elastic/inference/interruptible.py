"""A runner that can be interrupted: it answers early, and better as long as there is time.

A network whose operating points nest (each needs the segments of the one before, and some more)
is run increment by increment, from what the last one left behind. After each there is an answer,
the very one that the operating point gives alone. It stops between increments: when it is told
to, or when the next would not be done in time.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from jax_elastic.elastic.doors import check_images, check_statistics, naming_channels
from jax_elastic.elastic.family import Array, Carry, Family, Prediction, Segment, Variables
from jax_elastic.elastic.runs import are_broken, without_broken
from jax_elastic.elastic.segments import first_carry
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Subnet

SMALL = 2048  # elements: up to here an array is compiled into its program
BROKEN = "broken"  # of a carry: which images are not finite
ROUNDS = 20  # passes of a calibration, of which the slowest counts


@dataclasses.dataclass(frozen=True)
class Times:
    """What the increments of a network take, for one shape of images.

    Attributes:
      seconds: (rounds, increments), of each increment in each pass of the calibration.
    """

    seconds: npt.NDArray[np.float64]

    @property
    def usual(self) -> npt.NDArray[np.float64]:
        """Each increment's median: (increments,)."""
        found: npt.NDArray[np.float64] = np.median(self.seconds, axis=0)
        return found

    @property
    def slowest(self) -> npt.NDArray[np.float64]:
        """The most that each increment took: (increments,)."""
        found: npt.NDArray[np.float64] = self.seconds.max(0)
        return found


class Interruptible:
    """Runs a network increment by increment.

    Args:
      network: a family whose operating points nest (docs/anytime.md).
      variables: its arrays.
      clock: gives seconds.

    Attributes:
      subnets: the operating points, in the order of their answers.

    Raises:
      UsageError: the operating points do not nest, gates or budgets choose what is computed, or BN
        statistics were never estimated.
    """

    def __init__(
        self,
        network: Family,
        variables: Variables,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._network, self._variables, self._clock = network, variables, clock
        added = list(_additions(network))
        self.subnets = tuple(subnet for subnet, _ in added)
        check_statistics(network, variables, *self.subnets)
        self._increments = [
            _Increment(segments, variables, subnet == self.subnets[-1])
            for subnet, segments in added
        ]
        self._times: dict[Any, Times] = {}

    def __call__(
        self,
        images: Array,
        deadline: float | None = None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[Subnet, Prediction]]:
        """Yields (operating point, prediction), as they come; the last is the best.

        With a deadline, the first call for a shape and dtype of images runs a calibration, which
        takes `ROUNDS` passes, does not count and is not cancelled.

        Args:
          images: float (B, H, W, channels), normalised as in training.
          deadline: seconds from this call, which go on while an answer is looked at; an increment
            begins only if the slowest of its calibration would end in time. None for none.
          cancelled: asked before every increment, for example `threading.Event().is_set`.

        Raises:
          UsageError: images of another form, a deadline that is no time, one that the first answer
            does not keep, or a `cancelled` that cannot be called; at the latest with the first
            answer: images of other channels than the network was made for.
        """
        _check_concrete(images)
        if not callable(cancelled):
            raise UsageError(
                f"cancelled {cancelled!r} cannot be called",
                "a function without arguments",
                "for example threading.Event().is_set",
            )
        images = jnp.asarray(images)
        limits: Sequence[float] = [0.0] * len(self.subnets)
        if deadline is not None:
            _check_deadline(deadline)
            limits = list(self.times(images).slowest)
            if limits[0] > deadline:
                most = f"{1e3 * limits[0]:.1f} ms"
                raise UsageError(
                    f"a deadline of {1e3 * deadline:g} ms is too short",
                    f"the first answer, of {self.subnets[0]}, took up to {most} here",
                    "if other work ran then, measure again: runner.times(images, again=True)",
                )
        ends = None if deadline is None else self._clock() + deadline
        return self._answers(images, ends, limits, cancelled)

    def times(self, images: Array, again: bool = False) -> Times:
        """What the increments take for images of this shape and dtype.

        Measured once, and anew where that is asked for, for example because other work ran then.
        """
        _check_concrete(images)
        images = jnp.asarray(images)
        key = images.shape, str(images.dtype)
        if again or key not in self._times:
            self._pass(images)  # compiles
            self._times[key] = Times(np.stack([self._pass(images) for _ in range(ROUNDS)]))
        return self._times[key]

    def _pass(self, images: Array) -> npt.NDArray[np.float64]:
        """The seconds of each increment of one pass."""
        marks = [self._clock()]
        for _ in self._answers(images, None, (), lambda: False):
            marks.append(self._clock())
        return np.diff(marks)

    def _answers(
        self,
        images: Array,
        ends: float | None,
        limits: Sequence[float],
        cancelled: Callable[[], bool],
    ) -> Iterator[tuple[Subnet, Prediction]]:
        carry = first_carry(images, None, None)
        increments = zip(self.subnets, self._increments, strict=True)
        for i, (subnet, increment) in enumerate(increments):
            if cancelled():
                return
            if ends is not None and self._clock() + limits[i] > ends:
                return
            with naming_channels(self._network, self._variables, images):
                carry, logits = jax.block_until_ready(increment(carry))
            yield subnet, Prediction(logits)


class _Increment:
    """Segments and an exit as one program, which returns only what it has made anew.

    A compiled program copies what it hands on; all that was seen so far would be copied again and
    again. And each array that it is given costs a call some microseconds, so small ones, which are
    most, are its constants.

    Args:
      segments: what is run; the last one is the exit.
      variables: of the network.
      last: whether nothing comes after it, so that it hands on nothing.
    """

    def __init__(self, segments: Sequence[Segment], variables: Variables, last: bool):
        self._last = last
        self._codes = [segment.code for segment in segments]
        leaves, structure = jax.tree.flatten([s.take(variables) for s in segments])
        self._structure: Any = structure
        small = [leaf.size <= SMALL for leaf in leaves]
        self._constants = [np.asarray(x) if s else None for x, s in zip(leaves, small, strict=True)]
        self._given = [jnp.asarray(x) for x, s in zip(leaves, small, strict=True) if not s]
        self._program = jax.jit(self._run)
        self._kept: dict[Any, tuple[Any, list[int | None]]] = {}

    def __call__(self, carry: Carry) -> tuple[Carry, tuple[Array, ...]]:
        leaves, structure = jax.tree.flatten(carry)
        if structure not in self._kept:
            self._kept[structure] = self._handed_on(carry)
        after, kept = self._kept[structure]
        made, logits = self._program(self._given, carry)
        rest = iter(made)
        return after.unflatten(next(rest) if i is None else leaves[i] for i in kept), logits

    def _open(self, given: list[Array], carry: Carry) -> tuple[Carry, tuple[Array, ...]]:
        rest = iter(given)
        leaves = [next(rest) if leaf is None else leaf for leaf in self._constants]
        owns = self._structure.unflatten(leaves)
        *segments, (exit_, own) = zip(self._codes, owns, strict=True)
        carry = carry if BROKEN in carry else {**carry, BROKEN: are_broken(carry["image"])}
        for code, arrays in segments:
            carry = code.open(arrays, carry)
        logits = without_broken(exit_.open(own, carry)["logits"], carry[BROKEN])
        return {} if self._last else carry, logits

    def _run(self, given: list[Array], carry: Carry) -> tuple[list[Array], tuple[Array, ...]]:
        seen = {id(leaf) for leaf in jax.tree.leaves(carry)}
        after, logits = self._open(given, carry)
        return [leaf for leaf in jax.tree.leaves(after) if id(leaf) not in seen], logits

    def _handed_on(self, carry: Carry) -> tuple[Any, list[int | None]]:
        """The structure of the next carry, and for each leaf its place in this one, if any."""
        found: list[tuple[Any, list[int | None]]] = []

        def look(given: list[Array], carry: Carry) -> None:
            places = {id(leaf): i for i, leaf in enumerate(jax.tree.leaves(carry))}
            leaves, structure = jax.tree.flatten(self._open(given, carry)[0])
            found.append((structure, [places.get(id(leaf)) for leaf in leaves]))

        jax.eval_shape(look, self._given, carry)
        return found[0]


def _additions(network: Family) -> Iterator[tuple[Subnet, list[Segment]]]:
    """Each operating point, with its exit and the segments that the one before did not need."""
    if network.budgets or network.random:
        raise UsageError(
            "this network's gates choose what is computed, by a budget or by chance",
            "networks whose operating points add to one another",
            "run it with build_engine",
        )
    done: list[str] = []
    for subnet in network.subnets:
        *segments, exit_ = network.segments(subnet)
        names = [segment.name for segment in segments]
        if names[: len(done)] != done or any(s.role != "fixed" for s in segments):
            raise UsageError(
                f"the operating points of this network do not nest: {subnet} begins anew",
                "networks whose operating points add to one another",
                "run one point with build_engine",
            )
        yield subnet, [*segments[len(done) :], exit_]
        done = names


def _check_concrete(images: Array) -> None:
    """Refuses what `check_images` does, and images that have no values yet."""
    check_images(images)
    if isinstance(images, jax.core.Tracer):
        raise UsageError(
            "a runner that can be interrupted cannot be traced, by jax.jit for example",
            "arrays",
            "network.predict can be traced",
        )


def _check_deadline(deadline: float) -> None:
    number = isinstance(deadline, int | float | np.number) and not isinstance(deadline, bool)
    if not number or not 0 < deadline < math.inf:
        raise UsageError(f"deadline {deadline!r} is no time", "seconds above 0, or None")
