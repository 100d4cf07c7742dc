"""A resizable ResNet on handwritten digits: one set of weights, 27 resolutions, in some minutes.

Paper: Resizable networks (RS), in small.
Command: python train.py --config=configs/resizable_digits.py --workdir=runs/resizable
Hardware: 2 CPU cores.

Variants: `rs` (default): fair sampling, BN layers for each scale. `naive`: the scales of a step are
drawn independently. `shared_bn`: one set of BN layers. `individual`: one operating point alone, the
fullest or `--config.network.alone=0.5,0.75,1.0`. `input_only`: only the image is resized. `hard`
trains on digits_hard, 300 images amid clutter and noise.

What differs from the paper's settings: images are upsampled to 32x32, and a basic-block ResNet of
width 8 with maps of 32, 16 and 8, each at 3 scales, learns at a rate that falls along a cosine.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from jax_elastic.training.words import choose

BACKBONE = {"stage_sizes": (2, 2, 2), "width": 8}
VARIANTS = {
    "rs": {},
    "naive": {},
    "shared_bn": {"shared_bn": True},
    "individual": {},
    "input_only": {"places": "input"},
}
OBJECTIVES = {"naive": "independent", "individual": "alone"}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    name, data = choose(variant, tuple(VARIANTS), ("digits", "hard"))
    hard = data == "hard"
    objective = OBJECTIVES.get(name, "fair")
    digits = runpy.run_path(str(Path(__file__).with_name("urnet_digits.py")))
    config = ConfigDict()
    config.schema = 1
    config.seed = 0
    config.data = digits["HARD" if hard else "DIGITS"]
    config.runtime = {"log_every": 200, "save_every": 2000}
    config.network = {
        "family": "resizable",
        "backbone": BACKBONE,
        "scales": (0.5, 0.75, 1.0),
        "side": 32,
        **VARIANTS[name],
    }
    config.phases = (
        {
            "name": "train",
            "objective": objective,
            "epochs": 100.0 if hard else 25.0,
            "batch_size": 32 if hard else 64,
            "learning_rate": 0.1,
            "nesterov": True,
            "weight_decay": 1e-4,
            "schedule": "cosine",
        },
    )
    return config
