"""External: one small policy network decides all gates from the image and the budget."""

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from jax_elastic.backbones.blocks import BLOCKS
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.budgeted import Asked
from jax_elastic.elastic.dropping import GatedForward
from jax_elastic.elastic.family import Array, BNMode, Carry, PyTree, Segment, Variables
from jax_elastic.elastic.planned import Planned
from jax_elastic.elastic.segments import Take
from jax_elastic.elastic.static import DType
from jax_elastic.elastic.urnet.sampled import Sampled
from jax_elastic.errors import UsageError
from jax_elastic.gates import sigmoid_or_step
from jax_elastic.layers import norm

POLICY = "policy"


class Policy(nn.Module):
    """ResNet-8 on the image, pooled; with S in as many units -> hidden -> N gate logits.

    Attributes:
      backbone: the ResNet; its head is not used.
      hidden: units between.
      gates: N.

    References:
      URNet section 4.1 (External network); the exact stack is docs/choices.md U19.
    """

    backbone: ResNet
    hidden: int
    gates: int

    @nn.compact
    def __call__(self, images: Array, budget: Array, bn: BNMode) -> Array:
        """Images (B, H, W, channels), budget () or (B,) -> gate logits (B, N)."""
        net = self.backbone
        x = net.make_stem(name="stem")(images, bn)
        for i in range(len(net.stage_sizes)):
            x, _ = net.make_stage(i, BLOCKS[net.block], name=f"stage{i + 1}")(x, None, bn)
        pooled = x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))
        column = jnp.asarray(budget, pooled.dtype)[..., None]
        seen = jnp.concatenate([pooled, jnp.broadcast_to(column, pooled.shape)], -1)
        hidden = nn.relu(nn.Dense(self.hidden, name="hidden")(seen))
        logits: Array = nn.Dense(self.gates, name="logits")(hidden)
        return logits


@dataclasses.dataclass(frozen=True)
class PolicyCode:
    """The policy as a segment: ``image, budget`` -> ``plan``."""

    policy: Policy
    dtype: DType

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        images = carry["image"].astype(self.dtype)
        return {**carry, "plan": self.policy.apply(own, images, carry["budget"], "running")}


@dataclasses.dataclass(frozen=True)
class External(Planned, Sampled):
    """A ResNet whose gates a policy network sets before the first block.

    From the outside in: `Dropping` has the prediction, `Budgeted` the loss, this class the forward
    of the gates, `Planned` that of the network under a plan, `Plain` the rest.

    In phases of objective `policy` the policy's BN takes the batch even where the network's
    statistics are frozen, because it starts from nothing; in those of `gated` it follows the phase.

    Attributes:
      hidden: units between the policy's pooled features and its logits.
    """

    hidden: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden < 1:
            raise UsageError(f"hidden {self.hidden} is not positive", "1 or more")

    @property
    def objectives(self) -> tuple[str, ...]:
        """`base`, `policy` (see above) and `gated`."""
        return ("base", "policy", "gated")

    @property
    def policy(self) -> Policy:
        """The policy network: as wide as the network's stem, as ResNet-8 is beside ResNet-110."""
        return Policy(self.backbone.resnet8(), self.hidden, self.backbone.num_blocks)

    def _init(self, key: Array, images: Array) -> Any:
        body_key, policy_key = jax.random.split(key)
        body = super()._init(body_key, images)
        policy = self.policy.init(policy_key, images, jnp.float32(1), "running")
        return {name: {**body[name], POLICY: policy[name]} for name in ("params", "stats")}

    def gated_forward(
        self, variables: Variables, images: Array, asked: Asked, bn: BNMode
    ) -> GatedForward:
        """See `Budgeted`; `asked.noise` is bool (N,), which gates are their sigmoid."""
        own = cast(dict[str, PyTree], Take((POLICY,))(variables))
        policy_bn: BNMode = "batch" if asked.objective == "policy" else bn
        logits, sown = self.policy.apply(
            own, images.astype(self.dtype), asked.budget, policy_bn, mutable=["moments"]
        )
        opened = logits.T
        gates = sigmoid_or_step(opened, asked.noise[:, None])
        found = self.planned_forward(variables, images, gates, opened, bn)
        moments = norm.complete_moments(own["stats"], sown.get("moments"))
        return found._replace(moments={**found.moments, POLICY: moments})

    def plan_segment(self) -> Segment:
        """The policy."""
        return Segment("policy", PolicyCode(self.policy, self.dtype), Take((POLICY,)), "plan")
