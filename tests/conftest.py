"""Set before any test imports the package: eight CPU devices, caches, reproducible examples."""

import gc
import os
from pathlib import Path

import hypothesis
import jax
import pytest

_CACHE = Path(__file__).resolve().parents[1] / ".cache"

# At import time, because jax fixes its devices at first use and tests import the package.
jax.config.update("jax_num_cpu_devices", 8)
# Compiling is most of a test's time. 0 and -1: keep everything, however quick and small.
jax.config.update("jax_compilation_cache_dir", str(_CACHE / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

os.environ.setdefault("TFDS_DATA_DIR", str(_CACHE / "tfds"))

hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=30, database=None
)
hypothesis.settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    """Chooses how programs are compiled, before jax makes the first."""
    # LLVM's optimisation is half of compiling, and small shapes run fast without it.
    flags = [os.environ.get("XLA_FLAGS", ""), "--xla_backend_optimization_level=0"]
    # So is what fuses operations, up to the version that dropped the other way. The slow part
    # keeps it: there are the tests of bits, which a user's programs have to pass.
    if config.option.markexpr == "not slow" and jax.__version_info__ < (0, 11):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    os.environ["XLA_FLAGS"] = " ".join(flags)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Has Python look for cycles among what a test makes, and seldom.

    A search walks every object that traced programs are kept as, and finds next to nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


@pytest.fixture(scope="session")
def tfds_dir() -> Path:
    """Where TFDS keeps the sets that tests prepare; kept from one run to the next."""
    return Path(os.environ["TFDS_DATA_DIR"])
