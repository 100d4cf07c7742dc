"""A small network of every family, so that the laws are tested over all of them by name.

A family that is added to `FAMILIES` needs a line in `SMALL`; `test_families.py` asks for it.
"""

import pytest
import warm
from toy import Toy

from jax_elastic.backbones.isresnext import ISResNeXt as ISArchitecture
from jax_elastic.backbones.mobilenet_v1 import MobileNetV1
from jax_elastic.backbones.msdnet import MSDNet
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.backbones.shallow import ShallowResNeXt
from jax_elastic.elastic.anytime.exits import Exits
from jax_elastic.elastic.anytime.iresnext import IResNeXt
from jax_elastic.elastic.anytime.isresnext import ISResNeXt
from jax_elastic.elastic.anytime.one_pass import ALL_EXITS
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.resizable.adapt import Adapt
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.elastic.sgad.sgad import SGAD
from jax_elastic.elastic.urnet.external import External
from jax_elastic.elastic.urnet.fixed import URNetFixed
from jax_elastic.elastic.urnet.random_drop import RandomDrop
from jax_elastic.elastic.urnet.soft import SoftDrop, URNetSoft
from jax_elastic.elastic.urnet.urnet import URNet

RESNEXT = ResNeXt((1, 2), width=8, branches=4, branch_width=2, classes=5)
RESIZABLE = Resizable(ResNet((2, 3), width=4, classes=5), scales=(0.5, 1.0), side=12)
# Each has several blocks, of which two are a stack; images are 8 x 8 x 3.
SMALL = {
    "plain": Plain(warm.BACKBONE),
    "urnet": warm.SMALL,
    "urnet_fixed": URNetFixed(warm.BACKBONE),
    "urnet_soft": URNetSoft(warm.BACKBONE),
    "soft_drop": SoftDrop(warm.BACKBONE),
    "random_drop": RandomDrop(warm.BACKBONE),
    "external": External(warm.BACKBONE, hidden=8),
    "iresnext": IResNeXt(RESNEXT, subnetworks=2),
    "exits": Exits(MSDNet(2, 1, 1, "even", 4, 2, (1, 2), (1, 2), classes=(5,))),
    "isresnext": ISResNeXt(ISArchitecture((1, 2), 8, 4, 2, 2, classes=(5,))),
    "resizable": RESIZABLE,
    # The fullest of the base is no candidate.
    "adapt": Adapt(RESIZABLE, "resolution:0.5,0.5;resolution:1,0.5", width=8),
    "sgad": SGAD(warm.BACKBONE),
}
# A chain of depthwise convolutions. Bottlenecks have projections, whose statistics a closed block
# still reads; and one family that the package has never seen.
BOTTLENECKS = ResNet((1, 3), width=8, classes=5, block="bottleneck", stem="imagenet")
ALL = {
    **SMALL,
    "resnext": Plain(RESNEXT),
    "mobilenet": Plain(MobileNetV1((1, 3), width=2, classes=5, stem="cifar")),
    "shallow": Exits(ShallowResNeXt(RESNEXT, (1, 3))),
    "urnet-bottlenecks": URNet(BOTTLENECKS, reduction=1),
    "toy": Toy(),
}

# Networks whose depthwise convolutions are, on a CPU, sums of shifted maps, which are not counted.
SHIFTED = ("mobilenet",)
# Networks whose fast convolutions multiply zeros that the reference form leaves out.
WITH_ZEROS = ("resnext", "iresnext", "isresnext", "shallow")
# Networks in which no point reads all: each has BN layers of its own.
OF_ITS_OWN = ("iresnext", "resizable", "adapt")
# The point of a network that reads all of it, where that is not the fullest.
EVERYTHING = {"isresnext": ALL_EXITS, "exits": ALL_EXITS}

# The ends of each network's space; one point where there is only one.
POINTS = [
    pytest.param(name, subnet, id=f"{name}-{subnet}")
    for name, network in ALL.items()
    for subnet in dict.fromkeys([network.subnets.cheapest, network.subnets.fullest])
]
