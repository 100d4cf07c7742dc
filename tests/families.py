"""A small network of every family, so that the laws are tested over all of them by name.

A family that is added to `FAMILIES` needs a line in `SMALL`; `test_families.py` asks for it.
"""

import pytest
import warm
from toy import Toy

from jax_elastic.elastic.plain import Plain

# Each has several blocks, of which two are a stack; images are 8 x 8 x 3.
SMALL = {"plain": Plain(warm.BACKBONE), "urnet": warm.SMALL}
# And one that the package has never seen.
ALL = {**SMALL, "toy": Toy()}

# The ends of each network's space; one point where there is only one.
POINTS = [
    pytest.param(name, subnet, id=f"{name}-{subnet}")
    for name, network in ALL.items()
    for subnet in dict.fromkeys([network.subnets.cheapest, network.subnets.fullest])
]
