"""The names by which configs choose a family."""

from collections.abc import Callable

from jax_elastic.elastic.anytime.exits import Exits
from jax_elastic.elastic.anytime.iresnext import IResNeXt
from jax_elastic.elastic.anytime.isresnext import ISResNeXt
from jax_elastic.elastic.family import Family
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.resizable.adapt import Adapt
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.elastic.sgad.sgad import SGAD
from jax_elastic.elastic.urnet.external import External
from jax_elastic.elastic.urnet.fixed import URNetFixed
from jax_elastic.elastic.urnet.random_drop import RandomDrop
from jax_elastic.elastic.urnet.soft import SoftDrop, URNetSoft
from jax_elastic.elastic.urnet.urnet import URNet

FAMILIES: dict[str, Callable[..., Family]] = {
    "plain": Plain,
    "urnet": URNet,
    "urnet_fixed": URNetFixed,
    "urnet_soft": URNetSoft,
    "soft_drop": SoftDrop,
    "random_drop": RandomDrop,
    "external": External,
    "iresnext": IResNeXt,
    "isresnext": ISResNeXt,
    "exits": Exits,
    "resizable": Resizable,
    "adapt": Adapt,
    "sgad": SGAD,
}
"""Family name -> its dataclass."""


def family_name(network: Family) -> str:
    """The name of a family's class in `FAMILIES`."""
    for name, family in FAMILIES.items():
        if type(network) is family:
            return name
    raise ValueError(f"{type(network).__name__} has no name in FAMILIES")
