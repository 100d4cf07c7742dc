"""IS-ResNeXt on the 200 birds of CUB-200-2011, with one label level or four.

Paper: Anytime Neural Prediction via Slicing Networks Vertically (2018), section 4.3.
Command: python train.py --config=configs/isresnext_cub.py:hierarchical --workdir=runs/isresnext_cub
Hardware: one accelerator. Hours: not measured yet.
Expected (paper): the lowest accuracy over all sub-networks rises from 31.2 to 47.5 % where coarser
labels are allowed. Its coarser labels are unpublished and ours are others (docs/taxonomies.md), so
only the accuracy of the classes themselves compares. Not reproduced here yet.

Variants: `flat` (default) or `hierarchical`: class, genus, family and order.

What to put where: CUB_200_2011.tgz holds images/001.Black_footed_Albatross/*.jpg and so on, and
says in images.txt ("NUMBER PATH") and train_test_split.txt ("NUMBER 1" or "NUMBER 0") which are for
training. Unpack it here, and link each image to cub200/train/CLASS or cub200/test/CLASS, classes
called as the folders are:

    python - <<'END'
    from pathlib import Path
    root = Path("CUB_200_2011").resolve()
    read = lambda name: dict(line.split() for line in (root / name).read_text().splitlines())
    train = read("train_test_split.txt")
    for number, image in read("images.txt").items():
        link = Path("cub200", "train" if train[number] == "1" else "test", image)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(root / "images" / image)
    END

Another place is --config.data.name=folder:PATH. (TFDS has the birds, too, but in images of many
sizes, which are not read yet.) Images are resized to 224x224, whatever their proportions,
before random-resized crops, which so enlarge their pixels. 1,000 of the 5,994 training images are
held out, as in the paper.
"""

from ml_collections import ConfigDict

from jax_elastic.data.groups import CUB
from jax_elastic.elastic.anytime.recipe import ON_CUB, experiment
from jax_elastic.training.words import choose

ISRESNEXT = {
    "stage_sizes": (4, 4, 4, 4),
    "width": 192,
    "branches": 36,
    "branch_width": 4,
    "subfeatures": 6,
    "stem": "imagenet",
}


def get_config(variant: str = "") -> ConfigDict:
    """The config of a variant."""
    (levels,) = choose(variant, ("flat", "hierarchical"))
    hierarchical = levels == "hierarchical"
    classes, taxonomy = ((200, 123, 37, 12), "cub200") if hierarchical else ((200,), "")
    network = {"family": "isresnext", "backbone": {**ISRESNEXT, "classes": classes}}
    return experiment(network, {**CUB, "taxonomy": taxonomy}, ON_CUB)
