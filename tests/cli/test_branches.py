"""What branches carry and several widths err, from a trained network to the pictures of it."""

import json
from pathlib import Path

import jax
import pytest

import jax_elastic
from jax_elastic.cli import run
from jax_elastic.evaluation.branches import branch_norms

CONFIG = """
from ml_collections import ConfigDict


def get_config(variant):
    backbone = {"stage_sizes": (1, 1), "width": 8, "branches": 2, "branch_width": 2}
    network = {"family": "iresnext", "backbone": backbone, "subnetworks": 2}
    phase = {"name": "only", "epochs": 0.1, "objective": "anytime", "learning_rate": 0.1}
    phases = [{**phase, "batch_size": 32}]
    return ConfigDict({"schema": 1, "network": network, "data": {}, "phases": phases})
"""


@pytest.mark.slow
def test_eval_reads_the_norms_of_branches_off_a_checkpoint_and_compare_draws_them(
    tmp_path: Path,
) -> None:
    config, workdir = tmp_path / "widths.py", tmp_path / "run"
    config.write_text(CONFIG)
    flags = [f"--workdir={workdir}", "--platform=cpu"]
    assert run(["train", f"--config={config}", *flags]) == 0
    assert run(["eval", *flags]) == 0

    _, variables, _ = jax_elastic.load(workdir)
    rows = json.loads((workdir / "branches.json").read_text())["rows"]
    assert [row["l1"] for row in rows] == branch_norms(jax.device_get(variables), 2).tolist()
    assert {row["block"] for row in rows} == {2}
    pictures = {path.stem for path in (workdir / "plots").iterdir()}
    assert pictures == {"accuracy_against_macs", "branch_norms"}

    assert run(["compare", f"--workdirs={workdir}", f"--out={tmp_path / 'out'}"]) == 0
    pictures = {path.stem for path in (tmp_path / "out").iterdir()}
    assert pictures == {"runs_against_macs", "error_against_macs", "branch_norms"}
