"""I-ResNeXt, IS-ResNeXt and MSDNet on handwritten digits: anytime prediction in some minutes.

Paper: Anytime Neural Prediction via Slicing Networks Vertically (2018), in small.
Command: python train.py --config=configs/anytime_digits.py:i --workdir=runs/anytime
Hardware: 2 CPU cores. Time: 40 s to a minute and a half each, most of it compiling.
Expected, on test (seed 0, 2 cores), of `:i`, `:is` and `:msdnet`:

    subnet    top-1  95 % interval     MACs
    width:1  95.5 %   [92.9, 97.2]   35.1 K
    width:2  98.9 %   [97.2, 99.6]   60.7 K
    width:3  98.9 %   [97.2, 99.6]   86.3 K
    width:4  98.9 %   [97.2, 99.6]  111.9 K

    subnet    top-1  95 % interval    MACs
    width:1  92.8 %   [89.6, 95.0]  15.7 K
    width:2  96.4 %   [93.9, 97.9]  33.4 K
    width:3  97.8 %   [95.7, 98.9]  53.2 K
    width:4  98.1 %   [96.0, 99.1]  75.1 K

    subnet    top-1  95 % interval    MACs
    depth:1  90.5 %   [87.1, 93.1]  26.3 K
    depth:2  96.7 %   [94.2, 98.1]  48.6 K
    depth:3  97.5 %   [95.3, 98.7]  69.8 K
    depth:4  97.8 %   [95.7, 98.9]  92.4 K

With shared BN (`:shared_bn`) I-ResNeXt has 68.8, 95.8, 94.4 and 91.6 %.

Variants: `i` (default), `is` or `msdnet`; `hard` trains on digits_hard, 300 images amid clutter and
noise; with `i` also one of `own_bn` (default), `shared_bn`, `thin1` to `thin4`, `shallow_joint` and
`shallow_separate1` to `shallow_separate4`, as in `iresnext_cifar10.py`; with `is` and `msdnet` also
`hierarchical`, whose exits also tell how many loops the printed digit has.

What differs from the paper's settings: four sub-networks or exits of few and narrow blocks, because
digits are easy, and a learning rate that falls along a cosine.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import DIGITS, HARD
from jax_elastic.elastic.anytime.recipe import experiment
from jax_elastic.elastic.anytime.variants import OWN_BN, variants
from jax_elastic.errors import UsageError
from jax_elastic.training.words import choose

RESNEXT = {"stage_sizes": (2, 2), "width": 16, "branches": 4, "branch_width": 2}
MSDNET = {
    "exits": 4,
    "base": 1,
    "step": 1,
    "channels": 4,
    "growth": 4,
    "growth_factors": (1, 2),
    "bottleneck_factors": (1, 2),
}
I_RESNEXT = variants({**RESNEXT, "classes": 10}, subnetworks=4, after=(1, 2, 3, 4))


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    name, data, kind, levels = choose(
        variant,
        ("i", "is", "msdnet"),
        ("digits", "hard"),
        tuple(I_RESNEXT),
        ("flat", "hierarchical"),
    )
    hierarchical = levels == "hierarchical"
    if name != "i" and kind != OWN_BN:
        raise UsageError(f"{kind} is a variant of i", next_step=f"for example i,{kind}")
    if name == "i" and hierarchical:
        raise UsageError("i has one label level", next_step="for example is,hierarchical")
    hard = data == "hard"
    classes = (10, 3) if hierarchical else (10,)
    network = {
        "i": I_RESNEXT[kind],
        "is": {
            "family": "isresnext",
            "backbone": {**RESNEXT, "subfeatures": 4, "classes": classes},
        },
        "msdnet": {"family": "exits", "backbone": {**MSDNET, "classes": classes}},
    }[name]
    training = {
        # 270 images: small batches, so that as many epochs are enough steps.
        "epochs": 150.0 if hard else 60.0,
        "batch_size": 32 if hard else 64,
        "schedule": "cosine",
    }
    images = HARD if hard else DIGITS
    taxonomy = "digits" if hierarchical else ""
    return experiment(network, {**images, "taxonomy": taxonomy}, training)
