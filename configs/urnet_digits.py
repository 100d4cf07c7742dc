"""URNet on handwritten digits: the demo, and what `train.py` runs without flags.

Paper: URNet (AAAI 2020), in small; its settings are those of `urnet_cifar10.py`.
Command: python train.py --config=configs/urnet_digits.py --workdir=runs/demo
Hardware: 2 CPU cores. Time: about 2 minutes.
Expected, on test (seed 0, 2 cores): usage within 3 points of the budget at S = .2 to .9, from 20 %
to 93 % of the 15 blocks; top-1 98.1 to 98.9 % at every budget, the plain network (`:base`) 99.2 %.

Variants: `hard` trains on digits_hard, 300 images amid clutter and noise; and one of those of
`urnet_cifar10.py`, where `base` is trained as long as URNet in all with the base phase's recipe.

What differs from the paper's settings (`urnet_cifar10.py`), and why. Digits are so easy that gates
depend mostly on S. Budgets are drawn from [0, 1]: with [0.2, 1] some gates close for ever and the
range of usage shrinks. p is 0.3 instead of 0.1 for the same reason, beta 8 instead of 2, the
learning rate 5e-3 instead of 1e-3. URNet has one set of BN statistics for all S, so those of the
largest budgets fit worst: the statistics average over more steps (bn_momentum 0.99), and a last
phase, `settle`, trains under the running statistics that are used at test.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import DIGITS, HARD
from jax_elastic.elastic.urnet.variants import BACKBONE, VARIANTS, vary
from jax_elastic.training.words import choose


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    data, kind = choose(variant, ("digits", "hard"), tuple(VARIANTS))
    hard = data == "hard"
    # 270 images: small batches, so that as many epochs are enough steps.
    batch, stretch = (32, 0.8) if hard else (128, 1.0)
    backbone = {"stage_sizes": (5, 5, 5), "width": 8, "classes": 10}
    base = {
        "name": "base",
        "objective": "base",
        "pretrain": True,
        "trainable": BACKBONE,
        "epochs": 100.0 if hard else 20.0,
        "batch_size": batch,
        "learning_rate": 0.1,
        "schedule": "cosine",
        "weight_decay": 1e-4,
        "validate": False,
    }
    adam = {"objective": "gated", "optimizer": "adam", "learning_rate": 5e-3, "batch_size": batch}
    # What is trained here differs where other parameters make the gates: see VARIANTS.
    gates = {
        "name": "gates",
        "epochs": 40.0 * stretch,
        "trainable": "/gate/",
        "bn": "running",
        **adam,
    }
    adam["schedule"] = "cosine"
    joint = {**adam, "name": "joint", "epochs": 200.0 * stretch, "final_learning_rate": 1e-3}
    settle = {
        **adam,
        "name": "settle",
        "epochs": 60.0 * stretch,
        "bn": "running",
        "learning_rate": 1e-3,
        "final_learning_rate": 1e-5,
    }
    phases = (base, gates, joint, settle)
    urnet = {
        "backbone": backbone,
        "bn_momentum": 0.99,
        "p": 0.3,
        "beta": 8.0,
        "s_min": 0.0,
        "s_max": 1.0,
    }
    config = ConfigDict()
    config.schema = 1
    config.seed = 0
    config.data = HARD if hard else DIGITS
    config.runtime = {"log_every": 200}
    config.network, config.phases = vary(kind, urnet, phases)
    if kind == "base":
        everything = sum(phase["epochs"] for phase in phases)
        config.phases = ({**config.phases[0], "epochs": everything},)
        # The plain network has one distribution to estimate, for which flax's default is enough.
        del config.network.bn_momentum
    if config.network.get("target") is None and kind not in ("base", "rand_val"):
        config.runtime.validation_budgets = (0.4, 0.8)
    return config
