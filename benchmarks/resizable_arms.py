"""The networks of the resizable experiments in small: `benchmarks/resizable_arms.py:NAME`, configs.

All are trained alike on digits_hard upsampled to 16x16: a ResNet whose maps of 16, 8 and 4 are run
at 3 scales each, of as few blocks as have a resize in every stage. Of learning
rates of .02, .05 and .1 the middle one was best for the mean over all points of `fair`, in a trial.
"""

import dataclasses
from collections.abc import Callable

from ml_collections import ConfigDict

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.resizable.adapt import Adapt
from jax_elastic.elastic.resizable.adapt_recipe import LEARNING
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.elastic.resizable.variants import Values, finetuned, switched
from jax_elastic.subnet import Subnet
from jax_elastic.training.experiment import Experiment, Runtime, to_config
from jax_elastic.training.phases import Phase
from jax_elastic.training.words import choose

DATA = DataConfig("digits_hard", (12, 12, 1), pad=1, mean=(0.204,), std=(0.287,))
RESIZABLE = Resizable(ResNet((1, 2, 2), width=8), scales=(0.5, 0.75, 1.0), side=16)

SHOWN = {
    "fullest": RESIZABLE.subnets.fullest,
    # One keeps the first map large, the other the last.
    "falling": Subnet("resolution", (1.0, 0.75, 0.5)),
    "rising": Subnet("resolution", (0.5, 0.75, 1.0)),
    "cheapest": RESIZABLE.subnets.cheapest,
}
"""Operating points that are compared one by one, and each of which is trained by itself, too."""


@dataclasses.dataclass(frozen=True)
class Training:
    """A network and how it is trained.

    Attributes:
      network: the family.
      objective: how the operating points of a step are drawn.
      epochs: passes over 270 images, in batches of 32: 844 steps in 100.
      made: the phases in place of that of these epochs, where there are others.
    """

    network: Resizable | Adapt
    objective: str = "fair"
    epochs: float = 100.0
    made: Callable[[Values], tuple[Values, ...]] | None = None


def individual(point: Subnet) -> Training:
    """The training of one operating point and no other."""
    return Training(RESIZABLE.aimed(point), "target")


def learning(phase: Values) -> tuple[Values]:
    """The phase that teaches images to choose, on a network that `phase` trained.

    In the 10 epochs of larger sets, here 84 steps, the loss came to 1.1 by one seed, more than one
    choice for all images has; in 40 to .8.
    """
    return ({"batch_size": phase["batch_size"], **LEARNING, "epochs": 40.0, "validate": False},)


CANDIDATES = 3
"""Between so many images choose: of three seeds' fronts the shortest."""
FINETUNED = "falling"
"""Of `SHOWN`, the point that is finetuned by itself."""
_FOR_FULLEST = RESIZABLE.aimed(SHOWN["fullest"])

TRAININGS: dict[str, Training] = {
    "fair": Training(RESIZABLE),
    "fair_twice": Training(RESIZABLE, epochs=200.0),  # as the paper trains what it shares
    "independent": Training(RESIZABLE, "independent"),
    "shared_bn": Training(dataclasses.replace(RESIZABLE, shared_bn=True)),
    "input_only": Training(dataclasses.replace(RESIZABLE, places="input")),
    **{name: individual(point) for name, point in SHOWN.items()},
    "nas": Training(RESIZABLE.aimed(SHOWN[FINETUNED]), made=finetuned),
    # Its learner costs 6 % of the cheapest point's MACs; one of 256 channels twice the fullest's.
    "adapt": Training(Adapt(RESIZABLE, width=16), made=learning),
    "aug": Training(_FOR_FULLEST, made=switched),
    "aug_no_banks": Training(dataclasses.replace(_FOR_FULLEST, shared_bn=True), made=switched),
}
"""By name."""


def get_config(variant: str) -> ConfigDict:
    """The config of a training."""
    (name,) = choose(variant, tuple(TRAININGS))
    training = TRAININGS[name]
    phase = Phase(
        name="base",
        epochs=training.epochs,
        objective=training.objective,
        learning_rate=0.05,
        batch_size=32,
        nesterov=True,
        weight_decay=1e-4,
        schedule="cosine",
        validate=False,
    )
    made = (vars(phase),) if training.made is None else training.made(vars(phase))
    experiment = Experiment(
        network=training.network,
        phases=tuple(Phase(**values) for values in made),
        data=DATA,
        runtime=Runtime(log_every=200),
    )
    return ConfigDict(to_config(experiment))
