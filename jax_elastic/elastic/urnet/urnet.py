"""URNet: each gate is its sigmoid with probability p in training, its step otherwise."""

import dataclasses

from jax_elastic.elastic.urnet.conditional import Conditional
from jax_elastic.elastic.urnet.sampled import Sampled


@dataclasses.dataclass(frozen=True)
class URNet(Conditional, Sampled):
    """A ResNet with a conditional gate per block (URNet section 3).

    p = 1 is the paper's SG and p = 0 its BG (table 1).
    """
