"""Where a figure comes from: the commit, the machine and the versions that made it."""

import os
import subprocess
from collections.abc import Iterable
from typing import Any

import flax
import jax

Facts = dict[str, str]


def facts() -> Facts:
    """`commit` (marked ``-dirty`` where files differ from it), `device` and `versions`."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    devices = jax.devices()
    return {
        "commit": told.stdout.strip() or "unknown",
        "device": f"{len(devices)} x {devices[0].device_kind}, {os.cpu_count()} CPU cores",
        "versions": f"jax {jax.__version__}, flax {flax.__version__}",
    }


def joined(all_facts: Iterable[Facts]) -> dict[str, Any]:
    """The facts of several runs as one: what differs between them is listed."""
    listed = list(all_facts)
    names = dict.fromkeys(name for found in listed for name in found)
    return {
        name: "; ".join(dict.fromkeys(found[name] for found in listed if name in found))
        for name in names
    }
