"""A network's segments within another's: beside what the other carries, or all of them as one."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jax_elastic.elastic.family import Array, Carry, Code, PyTree, Segment, Variables
from jax_elastic.elastic.resizable.learner import margin
from jax_elastic.elastic.resizable.stretches import Stretch, StretchCode, joined


def split_head(segments: Sequence[Segment]) -> tuple[tuple[Segment, ...], Segment]:
    """The segments of a resizable network up to the features of its head; and its head.

    Args:
      segments: at one operating point. The head is the last part of the chain.
    """
    *before, last = segments
    code: Any = last.code
    parts = code.stretch.parts

    def segment(name: str, stretch: Stretch, ends: bool) -> Segment:
        return Segment(name, StretchCode(stretch, code.index, ends), stretch)

    body = dataclasses.replace(code.stretch, parts=parts[:-1])
    head = dataclasses.replace(code.stretch, parts=parts[-1:])
    return (*before, segment(last.name, body, False)), segment("head", head, True)


@dataclasses.dataclass(frozen=True)
class BesideCode:
    """A segment of the inner network: ``image`` or ``x`` -> ``x`` or ``logits``, the rest stays.

    The image stays, too, for what is run after the inner network.

    Attributes:
      code: the segment's own.
    """

    code: Code

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`."""
        rest = {name: array for name, array in carry.items() if name != "x"}
        read = "x" if "x" in carry else "image"
        return {**rest, **self.code.open(own, {read: carry[read]})}


def beside(segment: Segment) -> Segment:
    """A segment of the probe, the inner network that runs for every image."""
    return Segment(f"probe/{segment.name}", BesideCode(segment.code), segment.take)


@dataclasses.dataclass(frozen=True)
class CandidateCode:
    """An inner network as one gated segment: ``image, choice_logits`` -> other ``logits``.

    Attributes:
      codes: its segments', in order.
      place: among the candidates, from 0.
    """

    codes: tuple[Code, ...]
    place: int

    def open(self, own: PyTree, carry: Carry) -> Carry:
        """See `Code`: the answer of this candidate in place of the one before."""
        inner: Carry = {"image": carry["image"]}
        for code in self.codes:
            inner = code.open(own, inner)
        return {**carry, "logits": inner["logits"]}

    def skip(self, own: PyTree, carry: Carry) -> Carry:
        """See `GatedCode`: the answer stays."""
        del own
        return carry

    def gate(self, own: PyTree, carry: Carry, budget: Array | None) -> Array:
        """See `GatedCode`: open iff this candidate is chosen."""
        del own, budget
        return margin(carry["choice_logits"], self.place)


@dataclasses.dataclass(frozen=True)
class TakeAll:
    """Cuts out what several segments read, in the network's trees: the `take` of a `Segment`.

    Attributes:
      segments: whose own are in the network's trees, no two of one place, as those of `Stretch`.
    """

    segments: tuple[Segment, ...]

    def __call__(self, variables: Variables) -> PyTree:
        """Their ``{"params", "stats"}`` together."""
        return joined(segment.take(variables) for segment in self.segments)


def candidate(place: int, inner: tuple[Segment, ...]) -> Segment:
    """A whole inner network as a gated segment; `place` is counted from 0."""
    code = CandidateCode(tuple(segment.code for segment in inner), place)
    return Segment(f"candidate{place + 1}", code, TakeAll(inner), "gated")
