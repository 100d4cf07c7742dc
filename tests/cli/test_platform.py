"""Flags that JAX reads before it starts are tried in a process of their own."""

import subprocess
import sys

SHOW_DEVICES = """
import jax
from absl import flags
from jax_elastic.cli.platform import configure, define

values = flags.FlagValues()
define(values)
values(["program", "--platform=cpu", "--cpu_devices=3", "--compilation_cache="])
configure(values)
print(len(jax.devices()))
"""


def test_the_cpu_counts_as_the_devices_that_are_asked_for() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", SHOW_DEVICES], capture_output=True, text=True, check=True
    )

    assert shown.stdout == "3\n"
