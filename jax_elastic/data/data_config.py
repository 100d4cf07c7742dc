"""The group `data` of a config: which images, and how training changes them."""

import dataclasses
import math
from typing import Literal

from jax_elastic.errors import UsageError

CROPS = ("pad", "resized")
_LARGEST_VALIDATION = 0.5
_LARGEST_JITTER = (1.0, 1.0, 1.0, 0.5)  # brightness, saturation, contrast, hue


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which images, and how they are prepared for a network; hashable, so static under jit.

    Attributes:
      name: a TFDS name, e.g. "digits" or "cifar100", or "folder:PATH" for a folder of images
        (docs/data.md).
      image_shape: (H, W, channels) of its images, or to which those of a folder are resized;
        what the network is built for.
      validation: share of every class of train that is held out as "validation", in
        [0, 0.5]; 0 holds out nothing.
      crop: how training crops: "pad" shifts the image by up to `pad` pixels; "resized" stretches
        a random part of it over the whole, which enlarges what lies in memory.
      pad: black pixels added on every side before a random crop back to size; 0 = no crop.
      flip: whether training mirrors half of the images left to right.
      cutout: side in pixels of the square that training blanks in each image; 0 = none.
      jitter: how much training changes brightness, saturation, contrast and hue, each in [0, 1]
        but hue in [0, 0.5], see `jitter` of `colours`; () = none. Saturation and hue are 0 but for
        RGB.
      mixup: alpha of the Beta distribution by which training mixes pairs of images; 0 = none.
      mean: of pixel / 255, one value per channel. The default is that of digits' train
        split (0.3057 over all 1,438 images).
      std: of pixel / 255, one value per channel. The default is that of digits' train
        split (0.3759).
      taxonomy: what a network with several label levels learns: the name of a taxonomy of the
        package, e.g. "cifar100", or the path of a .json file (docs/data.md); empty for one level.
      targets: what a network learns that chooses between operating points: the path of a file of
        targets, to whose images training is then restricted; empty for none. They are of images
        as they are, and a mixed one has none: not with `mixup`.

    Raises:
      UsageError: at construction, where a value is out of range.
    """

    name: str = "digits"
    image_shape: tuple[int, ...] = (8, 8, 1)
    validation: float = 0.1
    crop: Literal["pad", "resized"] = "pad"
    pad: int = 1
    flip: bool = False
    cutout: int = 0
    jitter: tuple[float, ...] = ()
    mixup: float = 0.0
    mean: tuple[float, ...] = (0.306,)
    std: tuple[float, ...] = (0.376,)
    taxonomy: str = ""
    targets: str = ""

    def __post_init__(self) -> None:
        # Lists, too, may be given; only tuples hash.
        object.__setattr__(self, "image_shape", tuple(self.image_shape))
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        object.__setattr__(self, "jitter", tuple(float(value) for value in self.jitter))
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise UsageError(f"data.image_shape {self.image_shape} is not (H, W, channels)")
        if not 0 <= self.validation <= _LARGEST_VALIDATION:
            raise UsageError(
                f"data.validation {self.validation} is outside [0, {_LARGEST_VALIDATION}]",
                next_step="give the share of train to hold out, for example 0.1",
            )
        for name in ("pad", "cutout"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise UsageError(f"data.{name} {value!r} is not a whole number of pixels >= 0")
        if self.cutout > min(self.image_shape[:2]):
            raise UsageError(
                f"data.cutout {self.cutout} is larger than images of {self.image_shape[:2]}",
                "the side of a square within them",
            )
        self._check_crop()
        self._check_jitter()
        if not 0 <= self.mixup < math.inf:
            raise UsageError(f"data.mixup {self.mixup} is no alpha", "0 for none, or more")
        if self.mixup and self.targets:
            raise UsageError(
                f"data.mixup is {self.mixup} and data.targets is set: which operating point suits "
                "a mix of two images is not known",
                "one of the two",
                "set data.mixup to 0",
            )
        channels = self.image_shape[-1]
        if not len(self.mean) == len(self.std) == channels:
            raise UsageError(
                f"data.mean has {len(self.mean)} values and data.std {len(self.std)}",
                f"one of each per channel, and data.image_shape has {channels}",
            )
        if not all(0 <= value <= 1 for value in self.mean):
            raise UsageError(f"data.mean {self.mean} is outside [0, 1]", "the mean of pixel / 255")
        if not all(0 < value < math.inf for value in self.std):
            raise UsageError(f"data.std {self.std} is not positive", "the std of pixel / 255")

    def _check_crop(self) -> None:
        if self.crop not in CROPS:
            raise UsageError(f"data.crop {self.crop!r} is unknown", "one of " + ", ".join(CROPS))
        if self.crop == "resized" and self.pad:
            raise UsageError(
                f"data.crop 'resized' and data.pad {self.pad} are two crops",
                "one of the two",
                "set data.pad to 0, or data.crop to 'pad'",
            )

    def _check_jitter(self) -> None:
        if not self.jitter:
            return
        if len(self.jitter) != len(_LARGEST_JITTER):
            raise UsageError(
                f"data.jitter {self.jitter} has {len(self.jitter)} values",
                "those of brightness, saturation, contrast and hue, or none: ()",
                "for example data.jitter=(0.4, 0.4, 0.4, 0.1)",
            )
        if not all(0 <= v <= m for v, m in zip(self.jitter, _LARGEST_JITTER, strict=True)):
            raise UsageError(
                f"data.jitter {self.jitter} is out of range",
                "brightness, saturation and contrast in [0, 1], hue in [0, 0.5]",
            )
        _, saturation, _, hue = self.jitter
        if (saturation or hue) and self.image_shape[-1] != 3:
            raise UsageError(
                f"data.jitter {self.jitter} changes colours, and images of {self.image_shape} are "
                "not RGB",
                "brightness and contrast alone",
                f"set data.jitter to {(self.jitter[0], 0.0, self.jitter[2], 0.0)}",
            )
