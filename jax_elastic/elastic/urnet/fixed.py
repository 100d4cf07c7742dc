"""URNet(Fixed): trained for one budget, which it approaches by scale annealing."""

import dataclasses
import math

import numpy as np

from jax_elastic.elastic.budgeted import budget_draw
from jax_elastic.elastic.family import Draw, When
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.errors import UsageError


@dataclasses.dataclass(frozen=True)
class URNetFixed(URNet):
    """A URNet for the budget `target` alone (URNet section 3.4; docs/choices.md U17).

    In phases of objective `annealed` S comes down from 1 to `target` along half a cosine, in those
    of `gated` it stays there; each step draws N(S, noise^2), clipped to [s_min, s_max].

    Attributes:
      target: S*, the budget it is trained for and tested with.
      anneal_epochs: T, how long S comes down, counted from the start of the `annealed` phase.
      noise: standard deviation of the draw.
    """

    s_min: float = 0.0
    target: float = 0.5
    anneal_epochs: float = 5.0
    noise: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.s_min <= self.target <= self.s_max:
            raise UsageError(
                f"target {self.target:g} is no budget of this network",
                f"from s_min {self.s_min:g} to s_max {self.s_max:g}",
            )
        for name in ("anneal_epochs", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name} {getattr(self, name):g} is negative or not finite")

    @property
    def objectives(self) -> tuple[str, ...]:
        """`base`, `annealed` (see above) and `gated`."""
        return ("base", "annealed", "gated")

    @property
    def budgets(self) -> tuple[float, ...]:
        """The target alone."""
        return (self.target,)

    def draws(self, rng: np.random.Generator, when: When) -> tuple[Draw, ...]:
        """One budget around S(t) per step."""
        if when.objective == "base":
            return super().draws(rng, when)
        mean = self.target if when.objective == "gated" else self.annealed(when.phase_epoch)
        return (budget_draw(np.clip(rng.normal(mean, self.noise), self.s_min, self.s_max)),)

    def annealed(self, epoch: float) -> float:
        """S(t) = S* + (1 - S*)(1 + cos(pi t / T)) / 2 up to t = T epochs, then S*."""
        if epoch >= self.anneal_epochs:
            return self.target
        share = (1 + math.cos(math.pi * epoch / self.anneal_epochs)) / 2
        return self.target + (1 - self.target) * share
