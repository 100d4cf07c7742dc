"""A small network of every family, so that the laws are tested over all of them by name.

A family that is added to `FAMILIES` needs a line in `SMALL`; `test_families.py` asks for it.
"""

import pytest
import warm
from toy import Toy

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.urnet.external import External
from jax_elastic.elastic.urnet.fixed import URNetFixed
from jax_elastic.elastic.urnet.random_drop import RandomDrop
from jax_elastic.elastic.urnet.soft import SoftDrop, URNetSoft
from jax_elastic.elastic.urnet.urnet import URNet

# Each has several blocks, of which two are a stack; images are 8 x 8 x 3.
SMALL = {
    "plain": Plain(warm.BACKBONE),
    "urnet": warm.SMALL,
    "urnet_fixed": URNetFixed(warm.BACKBONE),
    "urnet_soft": URNetSoft(warm.BACKBONE),
    "soft_drop": SoftDrop(warm.BACKBONE),
    "random_drop": RandomDrop(warm.BACKBONE),
    "external": External(warm.BACKBONE, hidden=8),
}
# Bottlenecks have projections, whose statistics a closed block still reads; and one family that
# the package has never seen.
BOTTLENECKS = ResNet((1, 3), width=8, classes=5, block="bottleneck", stem="imagenet")
ALL = {**SMALL, "urnet-bottlenecks": URNet(BOTTLENECKS, reduction=1), "toy": Toy()}

# The ends of each network's space; one point where there is only one.
POINTS = [
    pytest.param(name, subnet, id=f"{name}-{subnet}")
    for name, network in ALL.items()
    for subnet in dict.fromkeys([network.subnets.cheapest, network.subnets.fullest])
]
