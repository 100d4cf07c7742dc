"""`targets`, from a workdir to the file that training reads and the command that comes next."""

import json
import re
import shlex

import numpy as np
import pytest
from found_rows import table_row
from left_run import leave_run

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli import run
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load_to_train
from jax_elastic.data.targets import read_targets
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.evaluation.rows import write_json
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.phases import Phase

NET = Resizable(ResNet((1, 2), width=4, classes=10), scales=(0.5, 1.0), side=8)
LOW, FULL = "resolution:0.5,0.5", "resolution:1,1"
EXPERIMENT = Experiment(
    network=NET, phases=(Phase("only", 1, NET.objectives[0], 0.1),), data=DataConfig(), seed=3
)
SMALL = ("--images=40", "--batch_size=32", "--platform=cpu")


def command(workdir, *flags):
    return run(["targets", f"--workdir={workdir}", *SMALL, *flags])


def error_of(capsys, workdir, *flags):
    assert command(workdir, *flags) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A network that was trained at all of its operating points."""
    return leave_run(tmp_path_factory.mktemp("run"), EXPERIMENT, FULL, LOW)


@pytest.fixture(scope="module")
def made(workdir, tmp_path_factory):
    """Targets of two candidates, named in the wrong order."""
    out = tmp_path_factory.mktemp("made") / "targets.npz"
    assert command(workdir, f"--subnet={FULL};{LOW}", f"--out={out}") == 0
    return out


def test_the_file_names_its_candidates_by_cost_and_has_a_row_for_each_beside_it(made):
    found = read_targets(made)
    document = json.loads(made.with_suffix(".json").read_text())

    assert found.candidates == (LOW, FULL)
    assert found.done == len(found.ids) == 40
    assert document["kind"] == "targets"
    assert [row["subnet"] for row in document["rows"]] == [LOW, FULL]
    assert [row["best"] for row in document["rows"]] == np.bincount(found.targets).tolist()
    assert {row["hash"] for row in document["rows"]} == {found.checkpoint}


def test_training_reads_what_the_command_wrote(made):
    data = load_to_train(DataConfig(targets=str(made)))

    assert len(data) == 40
    assert data.labels[:, 1].tolist() == read_targets(made).targets.tolist()


def test_the_same_command_does_nothing_anew_and_says_the_next_one(workdir, made, capsys):
    before = read_targets(made).probability
    assert command(workdir, f"--subnet={FULL};{LOW}", f"--out={made}") == 0
    *_, last = capsys.readouterr().out.splitlines()

    np.testing.assert_array_equal(read_targets(made).probability, before)
    flags = shlex.split(last.removeprefix("next: "))
    assert flags[:2] == ["python", "train.py"]
    assert f"--config.network.pool={LOW};{FULL}" in flags
    assert {f"--config.init_from={workdir}", f"--config.data.targets={made}"} <= set(flags)


def test_a_command_that_was_ended_early_goes_on(workdir, made, tmp_path):
    whole, out = read_targets(made), tmp_path / "targets.npz"
    begun = type(whole).begin(whole.ids, whole.candidates, whole.checkpoint, whole.train)
    # No network gives these numbers, so they tell whether the first images were run again.
    begun.extended(np.full((32, 2), 2, np.float32), np.zeros((32, 2), bool)).write(out)
    assert command(workdir, f"--subnet={FULL};{LOW}", f"--out={out}") == 0
    found = read_targets(out)

    assert (found.probability[:32] == 2).all()
    np.testing.assert_array_equal(found.probability[32:], whole.probability[32:])


def test_the_candidates_can_be_the_front_of_a_search(workdir, made, tmp_path):
    weights = read_targets(made).checkpoint
    points = ((LOW, 1, 0.5), ("resolution:0.5,1", 2, 0.4), (FULL, 3, 0.6))
    rows = [table_row(hash=weights, subnet=s, macs=m, top1=top1) for s, m, top1 in points]
    write_json(workdir / "search.json", "search", rows)
    out = tmp_path / "targets.npz"
    assert command(workdir, f"--out={out}", f"--json={tmp_path / 'rows.json'}") == 0
    (workdir / "search.json").unlink()

    assert read_targets(out).candidates == (LOW, FULL)
    assert (tmp_path / "rows.json").exists() and not (tmp_path / "targets.json").exists()


def test_standard_output_can_be_for_rows_alone(workdir, made, capsys):
    assert command(workdir, f"--subnet={FULL};{LOW}", f"--out={made}", "--json=-") == 0

    assert len(json.loads(capsys.readouterr().out)["rows"]) == 2


@pytest.mark.parametrize(
    "flags,message",
    [
        ((), r"no candidates: --subnet is empty.*search.json.*--subnet='a;b;c'.*search --workdir"),
        ((f"--subnet={LOW}",), "1 operating point is no choice"),
        (("--subnet=full;width:1",), "full does not fit this network"),
        ((f"--subnet={LOW};{FULL};resolution:1,0.5", "--max_candidates=2"), "names 3 operating"),
        ((f"--subnet={LOW};{FULL}", "--out=targets"), "no name of a .npz file"),
    ],
    ids=["neither", "one", "unknown", "too many", "no .npz"],
)
def test_what_makes_no_candidates_is_told(workdir, capsys, flags, message):
    error = error_of(capsys, workdir, *flags)

    assert len(error.splitlines()) == 1
    assert re.search(message, error)


def test_targets_of_something_else_are_not_overwritten(workdir, made, capsys):
    error = error_of(capsys, workdir, f"--subnet={FULL};{LOW}", f"--out={made}", "--images=39")

    assert "has targets already, of other images" in error
    assert "take another --out" in error
