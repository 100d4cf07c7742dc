"""What networks share that answer at K exits from one pass, each exit from more than the last.

They are cut into increments: increment k is what exit k needs beyond exit k - 1. So an operating
point is increments 1 ... k and exit k, and a runner that is told to stop has an answer at hand.
"""

import abc
import dataclasses
from typing import Any, Protocol, Self, cast

import flax.linen as nn
import numpy as np

from jax_elastic.elastic.family import (
    Array,
    Aux,
    Batch,
    BNMode,
    Carry,
    Code,
    Draw,
    Prediction,
    PyTree,
    Segment,
    Variables,
    When,
)
from jax_elastic.elastic.plain import HeadCode, classification
from jax_elastic.elastic.segments import Take
from jax_elastic.elastic.static import Static
from jax_elastic.errors import UsageError
from jax_elastic.layers import norm
from jax_elastic.subnet import Space, Subnet

ALL_EXITS = Subnet("exits")
"""The pass in which every exit answers; the logits are the last one's, the others are `earlier`."""

Answers = tuple[tuple[Array, ...], ...]
"""Of each exit, logits (B, classes) of each label level."""


@dataclasses.dataclass(frozen=True)
class AnswerCode:
    """One exit of several: its answer joins ``earlier``, or with those is what is left.

    Attributes:
      exit_: the exit.
      last: whether it is the last one.
    """

    exit_: Code
    last: bool

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        earlier = carry.get("earlier", ())
        logits = self.exit_.open(own, carry)["logits"]
        if self.last:
            return {"logits": logits, "earlier": earlier}
        return {**carry, "earlier": (*earlier, logits)}


class Backbone(Protocol):
    """What an architecture with exits gives, whatever lies between them."""

    @property
    def exits(self) -> int:
        """K."""
        ...

    @property
    def classes(self) -> tuple[int, ...]:
        """The number of classes of each label level."""
        ...

    def reference(self) -> "Backbone":
        """The same architecture with the convolutions whose MACs are counted."""
        ...

    def make_exit(self, k: int, name: str | None = None) -> nn.Module:
        """The classifiers of exit k."""
        ...

    def module(self) -> nn.Module:
        """The whole network, with parameters `exit1` ..."""
        ...


class OnePass(Static):
    """A network with K exits, ``AXIS:1`` ... ``AXIS:K``, trained on the sum of their losses.

    Attributes:
      backbone: the architecture, a `Backbone`.
    """

    backbone: Any

    @property
    @abc.abstractmethod
    def axis(self) -> str:
        """The axis of its operating points."""

    @abc.abstractmethod
    def answers(
        self, variables: Variables, images: Array, bn: BNMode, exits: tuple[int, ...]
    ) -> tuple[Answers, PyTree]:
        """What some exits answer to images (B, H, W, channels), and the BN moments.

        Nothing is computed that none of them needs.
        """

    @abc.abstractmethod
    def increment(self, k: int) -> Segment:
        """What exit k needs beyond exit k - 1; named so that equal names take equal arrays."""

    def exit(self, k: int) -> Segment:
        """Exit k: what increments 1 ... k hand on -> ``logits``."""
        return Segment(f"exit{k}", HeadCode(self._net.make_exit(k)), Take((f"exit{k}",)))

    @property
    def exits(self) -> int:
        """K."""
        return self._net.exits

    @property
    def classes(self) -> tuple[int, ...]:
        """See `Family`."""
        return self._net.classes

    def reference(self) -> Self:
        """See `Family`."""
        same: Any = self
        return cast(Self, dataclasses.replace(same, backbone=self._net.reference()))

    @property
    def subnets(self) -> Space:
        """One point for each exit."""
        return Space(self.axis, (self._ks,))

    @property
    def objectives(self) -> tuple[str, ...]:
        """`anytime`: the sum of the cross-entropies of all exits and label levels."""
        return ("anytime",)

    @property
    def further(self) -> tuple[Subnet, ...]:
        """`exits`: the pass that has all answers."""
        return (ALL_EXITS,)

    @property
    def forms(self) -> frozenset[str]:
        """Those of a single draw that is known."""
        return frozenset({"sliced", "host"})

    def check(self, subnet: Subnet) -> None:
        """See `Family`; `exits` is a point, too."""
        if subnet == ALL_EXITS:
            return
        try:
            self.subnets.check(subnet)
        except UsageError as error:
            allowed = f"{error.allowed}, or {ALL_EXITS}"
            raise UsageError(error.what, allowed, error.next_step) from None

    def draws(self, rng: np.random.Generator, when: When) -> tuple[Draw, ...]:
        """One draw, of the pass that has all exits."""
        del rng, when
        return (Draw(self.subnets.fullest),)

    def loss(
        self,
        variables: Variables,
        batch: Batch,
        draw: Draw,
        key: Array,
        objective: str,
        bn: BNMode,
    ) -> tuple[Array, Aux]:
        """The sum over exits and levels; sums `ce` and `top1` of the finest level, over exits.

        References:
          Anytime neural prediction, equations 1 and 2; docs/choices.md A5.
        """
        del draw, key, objective
        answers, moments = self.answers(variables, batch["image"], bn, self._ks)
        found = [classification(logits[0], batch) for logits in answers]
        coarse = [
            classification(level, batch, d)[0]
            for logits in answers
            for d, level in enumerate(logits[1:], 1)
        ]
        sums: dict[str, Any] = {
            name: tuple(sum(parts) for parts in zip(*(of[name] for _, of in found), strict=True))
            for name in found[0][1]
        }
        value = sum([value for value, _ in found] + coarse)
        return value, Aux(norm.complete_moments(variables["stats"], moments), sums)  # type: ignore[return-value]

    def predict(
        self,
        variables: Variables,
        images: Array,
        subnets: tuple[Subnet, ...],
        budget: Array | float | None,
        key: Array | None = None,
    ) -> tuple[Prediction, ...]:
        """See `Family`: one pass, as far as the last exit that is asked for."""
        del budget, key
        for subnet in subnets:
            self.check(subnet)
        ks = self._ks if ALL_EXITS in subnets else tuple(map(self._exit_of, subnets))
        answers, _ = self.answers(variables, images, "running", ks)
        by_exit = dict(zip(ks, answers, strict=True))
        return tuple(
            Prediction(
                by_exit[self._exit_of(subnet)],
                earlier=answers[:-1] if subnet == ALL_EXITS else (),
            )
            for subnet in subnets
        )

    def segments(self, subnet: Subnet) -> tuple[Segment, ...]:
        """Increments and exit; at `exits` each exit follows its increment."""
        self.check(subnet)
        increments = [self.increment(k) for k in range(1, self._exit_of(subnet) + 1)]
        if subnet != ALL_EXITS:
            return (*increments, self.exit(len(increments)))
        found = []
        for k, increment in enumerate(increments, 1):
            answer = self.exit(k)
            code = AnswerCode(answer.code, k == self.exits)
            found += [increment, dataclasses.replace(answer, code=code)]
        return tuple(found)

    def _init(self, key: Array, images: Array) -> Any:
        return self._net.module().init(key, images, "running")

    @property
    def _net(self) -> Backbone:
        net: Backbone = self.backbone
        return net

    @property
    def _ks(self) -> tuple[int, ...]:
        return tuple(range(1, self.exits + 1))

    def _exit_of(self, subnet: Subnet) -> int:
        return self.exits if subnet == ALL_EXITS else int(subnet.value[0])
