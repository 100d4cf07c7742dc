"""The names by which configs choose a family."""

from collections.abc import Callable

from jax_elastic.elastic.family import Family
from jax_elastic.elastic.plain import Plain
from jax_elastic.elastic.urnet import URNet

FAMILIES: dict[str, Callable[..., Family]] = {"plain": Plain, "urnet": URNet}
"""Family name -> its dataclass."""


def family_name(network: Family) -> str:
    """The name of a family's class in `FAMILIES`."""
    for name, family in FAMILIES.items():
        if type(network) is family:
            return name
    raise ValueError(f"{type(network).__name__} has no name in FAMILIES")
