"""What TFDS's builders of CIFAR ask of TensorFlow while they prepare, where it is not installed."""

import contextlib
import importlib.util
import io
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image


@contextlib.contextmanager
def able_to_prepare() -> Iterator[None]:
    """Lets TFDS prepare CIFAR: with TensorFlow where it is installed, else with a stand-in.

    The stand-in is known to TFDS alone and only until the context is left: nobody finds a
    TensorFlow among the imported modules, and afterwards TFDS lacks it as before.
    """
    from tensorflow_datasets.core.utils import lazy_imports_utils

    if importlib.util.find_spec("tensorflow"):
        yield
        return
    # All of TFDS shares this one lazy module, which keeps here what it has imported.
    imported = vars(lazy_imports_utils.tensorflow)
    imported["_module"] = _stand_in()
    try:
        yield
    finally:
        imported.pop("_module", None)


def _stand_in() -> SimpleNamespace:
    """The four functions that extracting an archive and writing an array as PNG take."""
    return SimpleNamespace(
        compat=SimpleNamespace(as_text=os.fsdecode),
        executing_eagerly=lambda: True,
        image=SimpleNamespace(encode_png=_encode_png),
        io=SimpleNamespace(gfile=SimpleNamespace(GFile=open)),
    )


def _encode_png(array: npt.NDArray[np.uint8]) -> Any:
    """(H, W, 3) as the bytes of a PNG, which `numpy()` gives as it does of a tensor."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return SimpleNamespace(numpy=file.getvalue)
