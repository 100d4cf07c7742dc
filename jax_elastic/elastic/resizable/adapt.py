"""A resizable network in which each image chooses its operating point: ``adapt:k``.

    probe, the cheapest candidate -> its features -> learner -> choice -> that candidate alone

An image that chooses the probe has its answer already and pays nothing more.
"""

import dataclasses
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_elastic.elastic.family import (
    Array,
    Aux,
    Batch,
    BNMode,
    Carry,
    Draw,
    Prediction,
    PyTree,
    Segment,
    Variables,
    When,
)
from jax_elastic.elastic.losses import cross_entropy, hits, masked_mean, masked_sum
from jax_elastic.elastic.resizable.learner import LEARNER, LearnerCode, ResizeLearner, chosen
from jax_elastic.elastic.resizable.nested import beside, candidate, split_head
from jax_elastic.elastic.resizable.pool import by_macs, read_pool
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.elastic.segments import Take
from jax_elastic.elastic.static import DType, Static
from jax_elastic.errors import UsageError
from jax_elastic.layers import norm
from jax_elastic.subnet import Space, Subnet

ADAPT = "adapt"


@dataclasses.dataclass(frozen=True)
class Adapt(Static):
    """A frozen resizable network, and a learner that chooses an operating point for each image.

    At ``adapt:k`` the choice is among the k cheapest of C candidates; at ``adapt:1`` there is none,
    and that point is the cheapest candidate itself. The operating points of `base` are accepted,
    too, and are the base's alone.

    The base's statistics are used as they are, whatever a phase says, and no gradient reaches it;
    what keeps weight decay from it is the phase's `trainable`, the learner alone (`adapt_recipe`).
    Its variables stand where they do in a run of the base, the learner's beside them, so that a run
    can start from one.

    Attributes:
      base: the network; its `dtype` is left alone, for this one's holds for all.
      pool: the candidates, operating points of `base` separated by ``;``, in any order. Empty: for
        each scale the point that has it everywhere.
      width: channels of the learner's convolutions.
      conv: implementation of the learner's convolutions, see `jax_elastic.layers.conv`.
      dtype: see `Static`.
      bn_momentum: of the learner, see `Static`.

    Raises:
      UsageError: at construction, where the width is below 1, the base has another dtype, or
        `read_pool` refuses the pool.

    References:
      Resizable networks, RS-Adapt; what it leaves open: docs/choices.md R6.
    """

    base: Resizable = dataclasses.field(default_factory=Resizable)
    pool: str = ""
    width: int = 256
    conv: str = "canonical"
    dtype: DType = "float32"
    bn_momentum: float = norm.MOMENTUM

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base.dtype not in ("float32", self.dtype):
            raise UsageError(
                f"base.dtype is {self.base.dtype} and dtype {self.dtype}",
                next_step="set dtype beside base, and leave base.dtype out",
            )
        if self.width < 1:
            raise UsageError(f"width {self.width} is not positive", "channels, 1 or more")
        read_pool(self.base, self.pool)

    @cached_property
    def candidates(self) -> tuple[Subnet, ...]:
        """See `Family`: by MACs, cheapest first; of equal ones the first of the pool."""
        given = read_pool(self.base, self.pool)
        return by_macs(self.base, given) if self.pool else given

    @cached_property
    def _count(self) -> int:
        """C; to know it nothing has to be counted."""
        return len(read_pool(self.base, self.pool))

    @cached_property
    def _frozen(self) -> Resizable:
        """The base as it is run here."""
        return dataclasses.replace(self.base, dtype=self.dtype)

    @property
    def _learner(self) -> ResizeLearner:
        return ResizeLearner(self.width, self._count, self.conv)

    @property
    def subnets(self) -> Space:
        """``adapt:k``, 1 <= k <= C."""
        return Space(ADAPT, (tuple(range(1, self._count + 1)),))

    @property
    def further(self) -> tuple[Subnet, ...]:
        """See `Family`: the candidates, which cost no choice where they are run alone."""
        return self.candidates

    @property
    def forms(self) -> frozenset[str]:
        """Those without a switch: all draws of a step are of one point."""
        return frozenset({"sliced", "host"})

    @property
    def objectives(self) -> tuple[str, ...]:
        """`learner`: what the learner says is compared with which candidate was best."""
        return ("learner",)

    @property
    def classes(self) -> tuple[int, ...]:
        """See `Family`: the base's."""
        return self.base.classes

    @property
    def targets(self) -> tuple[int, ...]:
        """See `Family`: behind the labels of the images the best candidate of each."""
        return (*self.base.classes, self._count)

    def check(self, subnet: Subnet) -> None:
        """See `Family`."""
        if subnet in self.subnets or subnet in self.base.subnets:
            return
        raise UsageError(
            f"operating point {subnet} does not fit this network",
            f"it takes {ADAPT}:k with k from 1 to {self._count}, or an operating point of its "
            f"base, for example {self.base.subnets.fullest}",
        )

    def reference(self) -> "Adapt":
        """See `Family`."""
        return dataclasses.replace(self, base=self.base.reference(), conv="native")

    def _init(self, key: Array, images: Array) -> Any:
        base_key, learner_key = jax.random.split(key)
        fresh = self._frozen.init(base_key, images)
        features = jax.eval_shape(self._features, fresh, images)
        zeros = jnp.zeros(features.shape, jnp.float32)
        learner = self._learner.init(learner_key, zeros, "running")
        return {name: {**fresh[name], LEARNER: learner[name]} for name in ("params", "stats")}

    def draws(self, rng: np.random.Generator, when: When) -> tuple[Draw, ...]:
        """One draw of the choice among all."""
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
        """Cross-entropy between the learner's logits and the last of the batch's targets.

        `bn` is of the learner alone. Sums `ce` and `agreement`: where the likeliest candidate is
        the target's.
        """
        del draw, key, objective
        targets, mask = batch["targets"][-1], batch["mask"]
        features = jax.lax.stop_gradient(self._features(variables, batch["image"]))
        own = {name: variables[name][LEARNER] for name in ("params", "stats")}
        logits, sown = self._learner.apply(own, features, bn, mutable=["moments"])
        ce = cross_entropy(logits, targets)
        sums = {
            "ce": masked_sum(ce, mask),
            "agreement": masked_sum(hits(logits, targets).astype(ce.dtype), mask),
        }
        moments = norm.complete_moments(variables["stats"], {LEARNER: sown.get("moments")})
        return masked_mean(ce, mask), Aux(moments, sums)

    def moments(
        self,
        variables: Variables,
        images: Array,
        subnet: Subnet,
        budget: Array | float | None,
        key: Array | None = None,
    ) -> PyTree:
        """See `Family`.

        Of a choice they are the learner's, for candidates share the base's layers and are left
        alone; where nothing is chosen, they are the base's at that point.
        """
        run = self._runs(subnet)
        if len(run) > 1:
            return super().moments(variables, images, subnet, budget, key)
        return self._frozen.moments(variables, images, run[0], budget, key)

    def predict(
        self,
        variables: Variables,
        images: Array,
        subnets: tuple[Subnet, ...],
        budget: Array | float | None,
        key: Array | None = None,
    ) -> tuple[Prediction, ...]:
        """See `Family`: every candidate that is asked about once, and for all images."""
        del budget, key
        allowed = max((int(p.value[0]) for p in subnets if p.axis == ADAPT), default=1)
        answers: dict[Subnet, tuple[Array, ...]] = {}
        carry: Carry = {"image": images}
        if allowed > 1:
            for segment in self._decide(allowed):
                carry = segment.code.open(segment.take(variables), carry)
            answers[self.candidates[0]] = carry["logits"]
        for point in dict.fromkeys(run for subnet in subnets for run in self._runs(subnet)):
            if point not in answers:
                (found,) = self._frozen.predict(variables, images, (point,), None)
                answers[point] = found.logits
        return tuple(
            chosen([answers[point] for point in self._runs(subnet)], carry.get("choice_logits"))
            for subnet in subnets
        )

    def segments(self, subnet: Subnet) -> tuple[Segment, ...]:
        """The probe up to its features, the learner, the probe's head; the other candidates.

        Where nothing is chosen, they are the base's.
        """
        self.check(subnet)
        run = self._runs(subnet)
        if len(run) == 1:
            return self._frozen.segments(run[0])
        others = enumerate(map(self._frozen.segments, run[1:]), 1)
        return (*self._decide(len(run)), *(candidate(place, inner) for place, inner in others))

    def _runs(self, subnet: Subnet) -> tuple[Subnet, ...]:
        """The base's points that can run at an operating point; one where nothing is chosen."""
        return self.candidates[: int(subnet.value[0])] if subnet.axis == ADAPT else (subnet,)

    def _features(self, variables: Variables, images: Array) -> Array:
        """What the head of the probe pools: (B, H, W, channels)."""
        carry: Carry = {"image": images}
        for segment in self._probe[0]:
            carry = segment.code.open(segment.take(variables), carry)
        features: Array = carry["x"]
        return features

    @cached_property
    def _probe(self) -> tuple[tuple[Segment, ...], Segment]:
        """The cheapest candidate up to its features, and its head."""
        return split_head(self._frozen.segments(self.candidates[0]))

    def _decide(self, allowed: int) -> tuple[Segment, ...]:
        """What runs before the choice among the first `allowed` candidates is known.

        The probe is `fixed`: it runs at every operating point, and its answer is one of those.
        """
        body, head = self._probe
        code = LearnerCode(self._learner, allowed)
        learner = Segment(LEARNER, code, Take((LEARNER,)), "plan")
        return (*map(beside, body), learner, beside(head))
