"""jax_elastic: networks whose cost is chosen after training.

    network, variables, experiment = jax_elastic.load("runs/demo")
    engine = jax_elastic.build_engine(network, variables)
    prediction = engine(images, budget=0.6)

The parts, in the order in which they import each other: `layers`, `backbones`, `elastic` (the
families and the seams), `training`, `evaluation`, `inference`, `cli`; `data` beside them.
"""

from jax_elastic.errors import UsageError
from jax_elastic.inference.engine import build_engine
from jax_elastic.inference.interruptible import Interruptible
from jax_elastic.inference.pretrained import pretrained
from jax_elastic.inference.recalibrate import recalibrate
from jax_elastic.subnet import Subnet
from jax_elastic.training.workdir import load

__all__ = [
    "Interruptible",
    "Subnet",
    "UsageError",
    "build_engine",
    "load",
    "pretrained",
    "recalibrate",
]
