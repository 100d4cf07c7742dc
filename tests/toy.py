"""A family that the package has never seen: two depths, one gate, banks of BN statistics.

On request it has a second label level.

Tests send it through the loop, the evaluator, the counter and the engines to see that these
know the seams (`jax_elastic.elastic.family`) and nothing else of a network.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jax_elastic.elastic.family import (
    STATIC_FORMS,
    TRACED_FORMS,
    Aux,
    Draw,
    Prediction,
    Segment,
)
from jax_elastic.elastic.losses import cross_entropy, masked_mean
from jax_elastic.elastic.plain import classification
from jax_elastic.elastic.segments import Take
from jax_elastic.gates import gate_mul, straight_through
from jax_elastic.layers import norm
from jax_elastic.subnet import Space

WIDTH, CLASSES = 8, 10


class Stem(nn.Module):
    """Dense-BN-ReLU; BN has a bank per depth."""

    banks: int | None = None

    @nn.compact
    def __call__(self, images, bn, bank=None):
        x = nn.Dense(WIDTH, name="dense")(images.reshape(len(images), -1))
        return nn.relu(norm.BatchNorm(self.banks, name="bn")(x, bn, bank))


class Block(nn.Module):
    """x + g ReLU(dense x), only at depth 2."""

    def setup(self):
        self.dense, self.gate = nn.Dense(WIDTH), nn.Dense(1)

    def logits(self, x):
        return self.gate(x)[:, 0]

    def open(self, x):
        return x + nn.relu(self.dense(x))

    def __call__(self, x):
        logits = self.logits(x)
        return x + gate_mul(straight_through(logits), nn.relu(self.dense(x))), logits


class Head(nn.Module):
    """BN, and a Dense for each label level; this BN is shared by both depths."""

    coarse: int = 0

    @nn.compact
    def __call__(self, x, bn):
        x = norm.BatchNorm(name="bn")(x, bn)
        fine = nn.Dense(CLASSES, name="classifier")(x)
        return (fine, nn.Dense(self.coarse, name="coarse")(x)) if self.coarse else (fine,)


class Net(nn.Module):
    coarse: int = 0

    @nn.compact
    def __call__(self, images, bn, depth):
        """`depth` is 1 or 2; where it is traced, the block is computed and may not be taken."""
        x, gates = Stem(2, name="stem")(images, bn, depth - 1), None
        if not isinstance(depth, int):
            deep, gates = Block(name="block")(x)
            x = jnp.where(depth == 2, deep, x)
        elif depth == 2:
            x, gates = Block(name="block")(x)
        return Head(self.coarse, name="head")(x, bn), gates


@dataclasses.dataclass(frozen=True)
class StemCode:
    dtype: str

    def open(self, own, carry):
        return {"x": Stem().apply(own, carry["image"].astype(self.dtype), "running")}


@dataclasses.dataclass(frozen=True)
class BlockCode:
    def open(self, own, carry):
        return {"x": Block().apply(own, carry["x"], method="open")}

    def skip(self, own, carry):
        return carry

    def gate(self, own, carry, budget):
        return Block().apply(own, carry["x"], method="logits")


@dataclasses.dataclass(frozen=True)
class HeadCode:
    coarse: int

    def open(self, own, carry):
        return {"logits": Head(self.coarse).apply(own, carry["x"], "running")}


@dataclasses.dataclass(frozen=True)
class TakeStem:
    bank: int

    def __call__(self, variables):
        own = Take(("stem",))(variables)
        bank = jax.tree.map(lambda a: a[self.bank], {c: own[c]["bn"] for c in own})
        return {
            "params": {**own["params"], "bn": bank["params"]},
            "stats": {"bn": bank["stats"]},
        }


@dataclasses.dataclass(frozen=True)
class Toy:
    """Every step draws both depths, in an order of its own; objective `shallow` only depth 1.

    With `coarse` there is a second label level of so many classes.
    """

    dtype: str = "float32"
    coarse: int = 0

    subnets = Space("depth", ((1, 2),))
    forms = STATIC_FORMS | TRACED_FORMS
    candidates = ()
    further = ()
    objectives = ("shallow", "both")
    budgets = ()
    random = False

    @property
    def shown(self):
        return self.subnets.shown()

    @property
    def classes(self):
        return (CLASSES, self.coarse) if self.coarse else (CLASSES,)

    @property
    def targets(self):
        return self.classes

    @property
    def net(self):
        return Net(self.coarse)

    def check(self, subnet):
        self.subnets.check(subnet)

    def reference(self):
        return self

    def init(self, key, images):
        fresh = self.net.init(key, jnp.zeros(images.shape, jnp.float32), "running", 2)
        wide = jnp.dtype(self.dtype)
        return jax.tree.map(lambda a: a.astype(wide) if a.dtype == jnp.float32 else a, dict(fresh))

    def draws(self, rng, when):
        points = list(self.subnets)[: 1 if when.objective == "shallow" else 2]
        return tuple(
            Draw(points[i], values={"temperature": np.float32(rng.uniform(1, 2))})
            for i in rng.permutation(len(points))
        )

    def loss(self, variables, batch, draw, key, objective, bn):
        images = batch["image"].astype(self.dtype)
        # Noise makes a wrong key, or one shared by two slots, visible. Coins have no rounding
        # that could be another in another program.
        coins = jax.random.bernoulli(key, jnp.float32(0.5), images.shape)
        noise = 0.01 * coins.astype(images.dtype)
        depth = int(draw.subnet.value[0]) if draw.subnet else draw.where[0] + 1
        (logits, _), sown = self.net.apply(
            variables, images + noise, bn, depth, mutable=["moments"]
        )
        value, sums = classification(logits[0] / draw.values["temperature"], batch)
        for further, targets in zip(logits[1:], batch["targets"][1:], strict=True):
            value += masked_mean(cross_entropy(further, targets), batch["mask"])
        moments = norm.complete_moments(variables["stats"], sown.get("moments"))
        return value, Aux(moments, sums)

    def predict(self, variables, images, subnets, budget, key=None):
        found = []
        for subnet in subnets:
            depth = int(subnet.value[0])
            logits, gates = self.net.apply(variables, images.astype(self.dtype), "running", depth)
            found.append(Prediction(logits, None if gates is None else gates[:, None]))
        return tuple(found)

    def moments(self, variables, images, subnet, budget, key=None):
        depth = int(subnet.value[0])
        _, sown = self.net.apply(
            variables, images.astype(self.dtype), "batch", depth, mutable=["moments"]
        )
        return norm.complete_moments(variables["stats"], sown["moments"])

    def segments(self, subnet):
        self.check(subnet)
        depth = int(subnet.value[0])
        stem = Segment(f"stem@{depth}", StemCode(self.dtype), TakeStem(depth - 1))
        block = Segment("block", BlockCode(), Take(("block",)), "gated")
        head = Segment("head", HeadCode(self.coarse), Take(("head",)))
        return (stem, block, head) if depth == 2 else (stem, head)

    def fold(self, stats, aux):
        return norm.fold(stats, aux.moments)
