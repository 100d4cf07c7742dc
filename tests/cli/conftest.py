"""A trained network for the commands that need one."""

from pathlib import Path

import pytest
from tiny_run import DIGITS, TINY

from jax_elastic.cli import run


@pytest.fixture(scope="session")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was trained for four steps, one in each phase."""
    path = tmp_path_factory.mktemp("run")
    assert run(["train", f"--config={DIGITS}", f"--workdir={path}", *TINY, "--platform=cpu"]) == 0
    return path
