"""The data sets that configs train on, as values for the group `data` of a config.

Sets that papers report hold out images of those for training, by which can be chosen; a config that
chooses nothing takes `validation` 0 instead.
"""

from typing import Any

Values = dict[str, Any]

DIGITS: Values = {"name": "digits", "image_shape": (8, 8, 1), "pad": 1, "flip": False}

HARD: Values = {
    "name": "digits_hard",
    "image_shape": (12, 12, 1),
    "pad": 1,
    "flip": False,
    "mean": (0.204,),
    "std": (0.287,),
}
"""300 images for training amid clutter and noise."""

CIFAR10: Values = {
    "name": "cifar10",
    "image_shape": (32, 32, 3),
    "validation": 0.1,
    "pad": 4,
    "flip": True,
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2470, 0.2435, 0.2616),
}
"""5,000 of the 50,000 images for training are held out."""

CIFAR100: Values = {
    **CIFAR10,
    "name": "cifar100",
    "mean": (0.5071, 0.4865, 0.4409),
    "std": (0.2673, 0.2564, 0.2762),
}

IMAGENET: Values = {
    "name": "imagenet2012",
    "image_shape": (224, 224, 3),
    "validation": 0.039,  # 50,000 of 1,281,167
    "pad": 0,
    "flip": True,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}

CUB: Values = {
    **IMAGENET,
    "name": "folder:cub200",
    "validation": 1 / 6,  # 5 images of each class: 1,000 of 5,994
    "pad": 28,  # of 224, as 4 of CIFAR's 32
}
