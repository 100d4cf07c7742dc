"""Checks at the door: what jitted code cannot refuse, the host refuses before it starts."""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from jax_elastic.elastic.family import Array, Family, Variables
from jax_elastic.elastic.points import own_budget
from jax_elastic.elastic.reads import unestimated
from jax_elastic.elastic.shapes import by_path, served_shapes, shapes_for_any_images
from jax_elastic.elastic.train_only import TRAIN_ONLY
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Subnet


def check_variables(network: Family, variables: Variables) -> None:
    """Refuses the arrays of another network: some of them would be run and answer nonsense.

    Their dtypes may be others, and parts that only teach the network may be there or not.

    Args:
      network: the family.
      variables: what should be its arrays.

    Raises:
      UsageError: an array is missing, superfluous or of another shape; the first is named.
    """
    own = {
        path: shape
        for path, shape in by_path(variables).items()
        if path.split("/")[1:2] != [TRAIN_ONLY]
    }
    # Most networks see colours, and for those the shapes of other images are not asked for.
    if own == served_shapes(network):
        return
    expected = shapes_for_any_images(network)
    for path in (*expected, *own):
        fault = _fault(own.get(path), expected.get(path))
        if fault is not None:
            raise UsageError(
                f"the variables are not those of this network: {path} {fault}",
                next_step="take both from one place, for example "
                "network, variables, experiment = jax_elastic.load(WORKDIR)",
            )


def _fault(own: tuple[int, ...] | None, expected: tuple[int | None, ...] | None) -> str | None:
    """What is wrong with an array's shape, None where it is missing; None of a length is any."""
    if own is None:
        return "is missing"
    if expected is None:
        return "is an array that it does not have"
    if len(own) == len(expected) and all(
        wanted in (None, length) for length, wanted in zip(own, expected, strict=True)
    ):
        return None
    wanted = ", ".join("any" if length is None else str(length) for length in expected)
    return f"has shape ({', '.join(map(str, own))}) and should have ({wanted})"


def check_statistics(network: Family, variables: Variables, *subnets: Subnet) -> None:
    """Refuses operating points whose BN statistics were never estimated (law 4).

    Args:
      network: the family.
      variables: its arrays, concrete.
      subnets: operating points of it.

    Raises:
      UsageError: the network does not have one of them, or a BN bank that it reads has count 0; or
        see `check_variables`.
    """
    for subnet in subnets:
        network.check(subnet)
    check_variables(network, variables)
    for subnet in subnets:
        check_estimated(network, variables, subnet)


def check_estimated(network: Family, variables: Variables, subnet: Subnet) -> None:
    """Refuses an operating point whose BN statistics were never estimated, and asks nothing else.

    Args:
      network: the family.
      variables: arrays that `check_variables` has let pass, concrete.
      subnet: an operating point of it.

    Raises:
      UsageError: a BN bank that it reads has count 0.
    """
    name = unestimated(network, variables, subnet)
    if name is not None:
        budget = " --budget=0.6" if network.budgets else ""
        raise UsageError(
            f"operating point {subnet} uses BN statistics that were never estimated "
            f"(segment {name})",
            next_step="name an operating point that was trained, finish its training (train.py on "
            "its workdir goes on), or estimate them: "
            f"python -m jax_elastic recalibrate --workdir=WORKDIR --subnet={subnet}{budget}",
        )


def check_images(images: Array) -> None:
    """Refuses a batch that no network takes.

    Args:
      images: what should be float (B, H, W, channels), B > 0.

    Raises:
      UsageError: it has another shape, or other numbers than floats.
    """
    if getattr(images, "ndim", None) != 4 or not images.shape[0]:
        what = getattr(images, "shape", type(images).__name__)
        raise UsageError(f"images have shape {what}", "(B, H, W, channels) with B > 0")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UsageError(
            f"images are {images.dtype}",
            "floats",
            "normalise them as in training: jax_elastic.data.augment.normalise",
        )


@contextlib.contextmanager
def naming_channels(network: Family, variables: Variables, images: Array) -> Iterator[None]:
    """Where running a network fails, asks `check_channels` whether the images are the reason.

    That costs a trace of the whole network, so no call that goes well pays for it.

    Raises:
      UsageError: see `check_channels`; anything else is raised as it came.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception:
        check_channels(network, variables, images)
        raise


def check_channels(network: Family, variables: Variables, images: Array) -> None:
    """Refuses images of more or fewer channels than a network has weights for.

    Args:
      network: the family.
      variables: its arrays.
      images: (B, H, W, channels).

    Raises:
      UsageError: with images of another number of channels these would be its arrays.
    """
    *sides, channels = images.shape[1:]
    own = by_path(variables)

    def differing(channels: int) -> list[str]:
        """The kernels, of those it has, that images of so many channels give other shapes."""
        image = jax.ShapeDtypeStruct((1, *sides, channels), jnp.float32)
        fresh = by_path(jax.eval_shape(network.init, jax.random.key(0), image))
        return [path for path in own if path in fresh and fresh[path] != own[path]]

    for path in differing(channels):
        # Input channels are the last axis but one of every kernel.
        wanted = own[path][-2] if len(own[path]) > 1 else channels
        if wanted != channels and not differing(wanted):
            raise UsageError(
                f"the number of channels of images is {channels}",
                f"{wanted} for this network",
                "turn them into images of the kind it was trained on, for example grey into RGB "
                "by jax.numpy.repeat(images, 3, -1)",
            )


def check_budget(network: Family, budget: float | None, subnet: Subnet | None = None) -> None:
    """Refuses a budget that the network cannot take, and a missing one that it needs.

    Args:
      network: the family.
      budget: the share of the blocks to spend, or None.
      subnet: the operating point, where it is known: some imply a budget.

    Raises:
      UsageError: the budget is outside [0, 1], missing, or given to a network without one.
    """
    if not network.budgets:
        if budget is not None:
            raise UsageError(
                f"this network takes no budget, but {budget:g} was given",
                next_step="leave the budget out",
            )
        return
    if budget is None:
        if subnet is not None and own_budget(subnet) is not None:
            return
        raise UsageError(
            "this network needs a budget",
            "the share of its blocks to spend, in [0, 1]",
            "for example budget=0.6; on the command line --budget=0.6",
        )
    if not 0 <= budget <= 1:
        raise UsageError(
            f"budget {budget:g} is outside [0, 1]",
            next_step="ask for a share of the blocks, for example 0.6",
        )
