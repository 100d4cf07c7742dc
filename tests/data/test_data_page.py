"""The example of docs/data.md, as a newcomer runs it, but with the smallest network."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from tiny_run import TINY

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "data.md").read_text()


@pytest.mark.slow
def test_the_example_of_the_data_page_runs_from_the_folder_to_predictions(tmp_path):
    for name in ("train.py", "eval.py", "configs"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (example,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    commands = example.replace("train.py", f"train.py {shlex.join(TINY)}")
    assert commands != example

    run = subprocess.run(
        ["bash", "-ec", commands],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(REPOSITORY),
            "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        },
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stderr
    described = run.stdout.splitlines()[:5]
    assert described[0] == "1437 images to train, 360 to test, 2 classes: even, odd"
    assert [line for line in described[1:] if line not in example] == []
    assert re.search(r"parity/test/odd/5\.png +(even|odd) ", run.stdout)
