"""The workflow runs what the Makefile has, on the versions that the package says it supports."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
JOBS = WORKFLOW["jobs"]


@pytest.mark.parametrize("job", JOBS)
def test_a_job_makes_only_what_the_makefile_has(job):
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [step["run"] for step in JOBS[job]["steps"] if "run" in step]
    made = {words.split()[1] for words in commands if words.startswith("make ")}
    assert made
    assert made <= targets


def test_every_supported_python_is_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    supported = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    assert JOBS["test"]["strategy"]["matrix"]["python"] == supported


def test_a_nightly_job_tests_the_newest_jax():
    # YAML 1.1 reads the key `on` as true.
    assert WORKFLOW[True]["schedule"]
    assert "schedule" in JOBS["newest-jax"]["if"]
    assert any("--upgrade --pre jax" in step.get("run", "") for step in JOBS["newest-jax"]["steps"])


def test_a_nightly_job_tests_the_data_sets_with_tensorflow():
    assert "schedule" in JOBS["with-tensorflow"]["if"]
    commands = " ".join(step.get("run", "") for step in JOBS["with-tensorflow"]["steps"])
    (path,) = re.findall(r"pytest -m slow (\S+)", commands)
    assert (ROOT / path).exists()
    assert "install tensorflow" in commands
