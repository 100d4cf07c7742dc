"""The machine a command runs on: platform and the cache of compiled programs."""

import os
from pathlib import Path

import jax
from absl import flags

from jax_elastic.errors import UsageError


def define(values: flags.FlagValues) -> None:
    """Defines `--platform` and `--compilation_cache`."""
    flags.DEFINE_string(
        "platform", None, "cpu, gpu or tpu; the best there is by default", flag_values=values
    )
    flags.DEFINE_string(
        "compilation_cache",
        os.environ.get("JAX_COMPILATION_CACHE_DIR", str(_default_cache())),
        "directory that keeps compiled programs from one run to the next; empty for none",
        flag_values=values,
    )


def configure(values: flags.FlagValues) -> None:
    """Applies the flags, before any computation.

    Raises:
      UsageError: the platform is not there.
    """
    if values.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", values.compilation_cache)
    if values.platform is None:
        return
    if values.platform not in ("cpu", "gpu", "tpu"):
        raise UsageError(f"unknown platform {values.platform!r}", "cpu, gpu or tpu")
    try:
        jax.devices(values.platform)
    except RuntimeError as error:
        there = sorted({device.platform for device in jax.devices()})
        raise UsageError(
            f"platform {values.platform!r} is not there ({str(error).splitlines()[0]})",
            "this machine has " + ", ".join(there),
            f"leave --platform out, or install jax for {values.platform}",
        ) from None
    # "cuda" is a platform's name where "gpu" is only an alias that this option does not know.
    jax.config.update("jax_platform_name", values.platform)


def _default_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "jax_elastic" / "compiled"
