"""The machine a command runs on: platform and the cache of compiled programs."""

import os
from pathlib import Path

import jax
from absl import flags

from jax_elastic.errors import UsageError


def define(values: flags.FlagValues) -> None:
    """Defines `--platform`, `--cpu_devices` and `--compilation_cache`."""
    flags.DEFINE_string(
        "platform", None, "cpu, gpu or tpu; the best there is by default", flag_values=values
    )
    flags.DEFINE_integer(
        "cpu_devices",
        None,
        "devices that the CPU counts as; with one per core training is faster, and its numbers "
        "differ in the last bits",
        lower_bound=1,
        flag_values=values,
    )
    flags.DEFINE_string(
        "compilation_cache",
        os.environ.get("JAX_COMPILATION_CACHE_DIR", str(_default_cache())),
        "directory that keeps compiled programs from one run to the next; empty for none",
        flag_values=values,
    )


def configure(values: flags.FlagValues, deterministic: bool = False) -> None:
    """Applies the flags, before any computation.

    Args:
      values: the parsed flags.
      deterministic: whether GPUs must use deterministic operations only.

    Raises:
      UsageError: the platform is not there.
    """
    if deterministic:
        # Read once, when the platform starts.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops"
    if values.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", values.compilation_cache)
    if values.cpu_devices is not None:
        jax.config.update("jax_num_cpu_devices", values.cpu_devices)
    wanted = values.platform
    if wanted not in (None, "cpu", "gpu", "tpu"):
        raise UsageError(f"unknown platform {wanted!r}", "cpu, gpu or tpu")
    try:
        jax.devices(wanted)
    except RuntimeError as error:
        asked = f"platform {wanted!r}" if wanted else "the platform of JAX_PLATFORMS"
        raise UsageError(
            f"{asked} is not there ({str(error).splitlines()[0]})",
            next_step="leave --platform and JAX_PLATFORMS out, or install jax for that platform",
        ) from None
    if wanted is not None:
        # This option knows "gpu"; the one called jax_platforms knows only "cuda" and "rocm".
        jax.config.update("jax_platform_name", wanted)


def _default_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "jax_elastic" / "compiled"
