"""The one operating point that a run is for: `config.subnet`, and what its network says of it."""

from jax_elastic.elastic.abilities import Targeted
from jax_elastic.elastic.family import Family
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Subnet


def agreed(network: Family, subnet: str) -> tuple[Family, str]:
    """A network and a config's `subnet` that say the same, whichever of them said it.

    Args:
      network: may be aimed itself, as configs were that had no `subnet`.
      subnet: an operating point as text, or empty.

    Returns:
      The network aimed at the point, and the point as it is printed; as they were where neither
      names one.

    Raises:
      UsageError: they name different points; or the network cannot be aimed, or has no such point.
    """
    own = network.aim if isinstance(network, Targeted) else None
    if not subnet:
        return network, "" if own is None else str(own)
    asked = Subnet.parse(subnet)
    if not isinstance(network, Targeted):
        raise UsageError(
            f"config.subnet is {asked}, and this network cannot be trained for one point alone",
            next_step="leave config.subnet out",
        )
    if own not in (None, asked):
        raise UsageError(
            f"config.subnet is {asked}, but config.network is itself aimed at {own}",
            next_step="give one of the two",
        )
    return network.aimed(asked), str(asked)
