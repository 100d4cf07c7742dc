"""The one MAC counter: walks a jaxpr and multiplies shapes.

A multiply-accumulate is counted for every tap of every convolution and every product of every
dot; FLOPs are twice that. Element-wise work, pooling, padding, shuffling and gathers count
zero. What cannot be counted with certainty is an error, never a guess.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

# Names differ between versions of JAX: jit was pjit, remat2 was remat and checkpoint. Each of
# these runs the one jaxpr it holds exactly once.
_CALLS = frozenset(
    {
        "call",
        "checkpoint",
        "closed_call",
        "core_call",
        "core_closed_call",
        "custom_jvp_call",
        "custom_jvp_call_jaxpr",
        "custom_vjp_call",
        "custom_vjp_call_jaxpr",
        "custom_vmap_call",
        "jit",
        "named_call",
        "pjit",
        "remat",
        "remat2",
        "xla_call",
    }
)

# Their jaxprs combine two scalars; they are walked only to see that they hold no dot.
_COMBINERS = frozenset(
    {
        "reduce",
        "reduce_window",
        "scatter",
        "scatter-add",
        "scatter-apply",
        "scatter-max",
        "scatter-min",
        "scatter-mul",
        "scatter-sub",
        "scatter_add",
        "scatter_max",
        "scatter_min",
        "scatter_mul",
        "scatter_sub",
        "select_and_scatter",
    }
)

# They hold no jaxpr, yet what they multiply cannot be seen from here.
_OPAQUE = frozenset(
    {
        "call_exported",
        "ffi_call",
        "io_callback",
        "pure_callback",
        "ragged_dot",
        "ragged_dot_general",
        "scaled_dot",
        "scaled_matmul",
    }
)


class UncountableError(ValueError):
    """A computation whose MACs the counter cannot know.

    Args:
      primitive: the JAX primitive's name.
      reason: why it cannot be counted, and what to use instead.
    """

    def __init__(self, primitive: str, reason: str):
        super().__init__(f"the MACs of primitive {primitive!r} cannot be counted: {reason}")
        self.primitive = primitive


class Cost(NamedTuple):
    """MACs of a network for one image, by what can be left out.

    Attributes:
      fixed: what every operating point runs.
      blocks: open - skip, one entry per gated block.
      gates: the gates themselves, and any plan network.
    """

    fixed: int
    blocks: tuple[int, ...]
    gates: int

    def of(self, open_blocks: np.ndarray) -> np.ndarray:
        """MACs per sample.

        Args:
          open_blocks: (..., N) zeros and ones, or booleans: which blocks ran.

        Returns:
          (...) float64.
        """
        open_blocks = np.asarray(open_blocks, np.float64)
        if open_blocks.shape[-1:] != (len(self.blocks),):
            raise ValueError(
                f"open_blocks has shape {open_blocks.shape}, "
                f"this cost has {len(self.blocks)} blocks; pass (..., {len(self.blocks)})"
            )
        gated: np.ndarray = open_blocks @ np.asarray(self.blocks, np.float64)
        return self.fixed + self.gates + gated

    @property
    def full(self) -> int:
        """MACs per image with every block open."""
        return self.fixed + self.gates + sum(self.blocks)


def count_macs(function: Callable[..., Any], *args: Any) -> int:
    """MACs of one call; nothing is compiled or computed.

    Args:
      function: any traceable function. Keywords and static arguments go into a closure.
      *args: pytrees of arrays or `jax.ShapeDtypeStruct`; only shapes and dtypes matter.

    Returns:
      Multiply-accumulates for the whole batch, an exact Python int.

    Raises:
      UncountableError: the function holds a loop of unknown length, branches of unequal cost
        (of those that depend on the platform, JAX's default one's is counted), or a primitive
        that the counter does not know and that holds a jaxpr.
    """
    return count_jaxpr(jax.make_jaxpr(function)(*args))


def count_jaxpr(jaxpr: Any) -> int:
    """MACs of one evaluation of a jaxpr.

    Args:
      jaxpr: a `Jaxpr` or `ClosedJaxpr`.

    Returns:
      Multiply-accumulates, an exact Python int.

    Raises:
      UncountableError: see `count_macs`.
    """
    return sum(_count_equation(equation) for equation in _open(jaxpr).eqns)


def _count_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "conv_general_dilated":
        return _count_conv(equation)
    if name == "dot_general":
        return _count_dot(equation)
    if name == "scan":
        return int(params["length"]) * count_jaxpr(params["jaxpr"])
    if name == "cond":
        return _count_branches(params["branches"], params.get("branches_platforms"))
    if name == "shard_map":
        # The body is what one device runs.
        axes = params["newly_manual_axes"]
        devices: int = math.prod(params["mesh"].shape[axis] for axis in axes)
        return devices * count_jaxpr(params["jaxpr"])
    if name == "while":
        raise UncountableError(name, "its length is not known; use scan, or a static fori_loop")
    if name in _OPAQUE:
        raise UncountableError(name, "what it computes is not visible; count its reference form")
    return _count_held(name, list(_held_jaxprs(params)))


def _count_conv(equation: Any) -> int:
    """Output elements times the taps behind each, padded or not."""
    (out,) = equation.outvars
    kernel: tuple[int, ...] = equation.invars[1].aval.shape
    # rhs_spec[0] is the output-feature axis. The kernel's input axis is already per group, so
    # grouped convolutions come out as grouped.
    features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return math.prod(out.aval.shape) * math.prod(kernel) // features if features else 0


def _count_dot(equation: Any) -> int:
    """Output elements, batch dimensions included, times the contracted size."""
    (out,) = equation.outvars
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape: tuple[int, ...] = equation.invars[0].aval.shape
    taps: int = math.prod(shape[axis] for axis in contracted)
    outputs: int = math.prod(out.aval.shape)
    return outputs * taps


def _count_branches(branches: tuple[Any, ...], platforms: tuple[Any, ...] | None) -> int:
    """MACs of any branch, or of the one that JAX's default platform takes."""
    if platforms is not None:
        branches = (branches[_own_platform(platforms)],)
    counts = [count_jaxpr(branch) for branch in branches]
    if len(set(counts)) > 1:
        raise UncountableError(
            "cond", f"its branches cost {counts} MACs; count each segment on its own"
        )
    return counts[0]


def _own_platform(platforms: tuple[tuple[str, ...] | None, ...]) -> int:
    """Which branch of `lax.platform_dependent` runs here; the names None take all the rest."""
    default = jax.default_backend()
    own = {"cuda", "rocm"} if default == "gpu" else {default}
    for i, names in enumerate(platforms):
        if names is None or own & set(names):
            return i
    raise UncountableError("cond", f"none of its branches is for {default}")


def _count_held(name: str, jaxprs: list[Any]) -> int:
    """MACs of any other primitive, by the jaxprs among its parameters."""
    if not jaxprs:
        return 0
    if name in _CALLS and len(jaxprs) == 1:
        return count_jaxpr(jaxprs[0])
    if name in _COMBINERS:
        if any(count_jaxpr(jaxpr) for jaxpr in jaxprs):
            raise UncountableError(name, "it combines elements with a dot or a convolution")
        return 0
    raise UncountableError(
        name, f"it holds {len(jaxprs)} jaxpr(s) and the counter does not know how often they run"
    )


def _open(jaxpr: Any) -> Any:
    """The `Jaxpr` of a `ClosedJaxpr`, or the jaxpr itself."""
    return jaxpr.jaxpr if hasattr(jaxpr, "jaxpr") else jaxpr


def _held_jaxprs(value: Any) -> Iterator[Any]:
    """Every jaxpr in a tree of parameters.

    By attribute rather than by class: where the classes live has changed between versions,
    and one that went unnoticed would silently count zero.
    """
    if hasattr(_open(value), "eqns"):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _held_jaxprs(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _held_jaxprs(item)
