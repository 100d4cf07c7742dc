"""`recalibrate`, and `eval` with borrowed banks, of a network that was trained at one point."""

import json
import re
import shutil
from pathlib import Path

import families
import jax
import numpy as np
import pytest
from left_run import leave_run
from PIL import Image

import jax_elastic
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli import run
from jax_elastic.cli.recalibrate_command import name_of
from jax_elastic.cli.recalibrated import cautions, facts, own_points
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load as load_data
from jax_elastic.data.order import batch_ids
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Subnet
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.mesh import make_mesh
from jax_elastic.training.phases import Phase, spans
from jax_elastic.training.saves import Saves
from jax_elastic.training.state import TrainState
from jax_elastic.training.workdir import CHECKPOINTS, claim, load_variables, read_config

NET = Resizable(ResNet((1, 1), width=4, classes=10), scales=(0.5, 1.0), side=8)
LOW, FULL = "resolution:0.5,0.5", "resolution:1,1"
EXPERIMENT = Experiment(
    network=NET, phases=(Phase("only", 1, NET.objectives[0], 0.1),), data=DataConfig(), seed=3
)
SMALL = ("--images=64", "--batch_size=32", "--platform=cpu")


def rows_of(path, kind):
    document = json.loads(path.read_text())
    assert document["kind"] == kind
    return document["rows"]


def error_of(argv, capsys):
    assert run(argv) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The workdir of a run whose banks were updated at the fullest point alone."""
    return leave_run(tmp_path_factory.mktemp("alone"), EXPERIMENT, FULL)


@pytest.fixture(scope="module")
def low(tmp_path_factory):
    """The lowest point of a network that was trained at all of them, recalibrated."""
    workdir = leave_run(tmp_path_factory.mktemp("everywhere"), EXPERIMENT, FULL, LOW)
    assert run(["recalibrate", f"--workdir={workdir}", f"--subnet={LOW}", *SMALL]) == 0
    return workdir / "recalibrated" / "resolution-0.5-0.5"


@pytest.fixture
def image(tmp_path):
    """A file to predict."""
    Image.new("L", (8, 8), 100).save(tmp_path / "image.png")
    return str(tmp_path / "image.png")


@pytest.fixture(scope="module")
def recalibrated(alone, tmp_path_factory):
    """Two points of it, recalibrated with the fullest one's banks, and the rows that were told."""
    out = tmp_path_factory.mktemp("out")
    rows = out / "rows.json"
    flags = [f"--subnet={LOW};{FULL}", f"--bank_of={FULL}", f"--out={out}", f"--json={rows}"]
    assert run(["recalibrate", f"--workdir={alone}", *flags, *SMALL]) == 0
    return out, rows_of(rows, "recalibrate")


def test_each_point_has_a_workdir_of_its_own_that_says_where_it_comes_from(alone, recalibrated):
    out, rows = recalibrated
    _, meta = load_variables(alone, EXPERIMENT)

    assert [row["out"] for row in rows] == [
        str(out / "resolution-0.5-0.5"),
        str(out / "resolution-1-1"),
    ]
    for row, point, of in zip(rows, (LOW, FULL), (FULL, None), strict=True):
        _, own = load_variables(out / name_of(Subnet.parse(point)), EXPERIMENT)
        assert own["recalibrated"].items() <= row.items()
        assert row["subnet"] == point and row["bank_of"] == of and row["step"] == 40
        assert row["hash"] == meta["hashes"]["variables"] and row["images"] == 64
        assert row["estimated_before"] == (point == FULL)
        assert own["class_names"] == meta["class_names"]


def test_what_was_written_is_what_the_function_gives(alone, recalibrated):
    out, _ = recalibrated
    network, trained, experiment = jax_elastic.load(alone)
    dataset = load_data(experiment.data, "train")
    images = dataset.images[batch_ids(experiment.seed, 0, 0, len(dataset), 64)]
    expected = jax_elastic.recalibrate(
        network, trained, Subnet.parse(FULL), images, batch_size=32, data=experiment.data
    )

    _, found, _ = jax_elastic.load(out / "resolution-1-1")

    for leaf, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        # Eight devices add in another order.
        np.testing.assert_allclose(leaf, other, rtol=1e-5, atol=1e-5)


def test_a_trained_workdir_is_left_as_it_was(alone, recalibrated):
    _, meta = load_variables(alone, EXPERIMENT)
    assert "recalibrated" not in meta and not (alone / "recalibrated").exists()
    assert [path.name for path in (alone / CHECKPOINTS).iterdir()] == ["40"]


COMMANDS = {
    "eval": (),
    "predict": ("--batch_size=1",),
    "latency": ("--batch_sizes=1", "--rounds=1"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_of_a_recalibrated_workdir_every_command_runs_its_point_and_says_so(
    command, low, image, tmp_path
):
    path = tmp_path / "rows.json"
    names = [image] if command == "predict" else []
    argv = [f"--workdir={low}", f"--json={path}", "--platform=cpu", *COMMANDS[command]]
    assert run([command, *names, *argv]) == 0

    (row,) = rows_of(path, command)
    assert (row["subnet"], row["step"], row["recalibrated"]) == (LOW, 40, LOW)
    assert (row["recalibrated_images"], row["recalibrated_budget"]) == (64, None)
    assert (row["bank_of"], row["estimated_before"]) == (None, True)


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        ("eval", f"--subnet={FULL}"),
        ("eval", f"--subnet={LOW};{FULL}"),
        ("eval", "--sample=4"),
        ("predict", f"--subnet={FULL}"),
        ("latency", f"--subnet={FULL}"),
    ],
)
def test_a_recalibrated_workdir_serves_no_other_point(command, asked, low, image, capsys):
    names = [image] if command == "predict" else []
    told = error_of([command, *names, f"--workdir={low}", asked, "--platform=cpu"], capsys)
    assert re.search(f"was recalibrated for {LOW} alone, not for resolution:.* --workdir=", told)
    assert str(low.parents[1]) in told and told.count("\n") == 1


@pytest.mark.parametrize("others", [None, [Subnet("resolution", (1, 0.5))]])
def test_a_recalibrated_workdir_that_is_loaded_is_refused_at_points_that_read_other_banks(
    others, low
):
    network, variables, _ = jax_elastic.load(low)
    jax_elastic.build_engine(network, variables, subnets=[Subnet.parse(LOW)])
    with pytest.raises(UsageError, match=r"resolution:1,.* uses BN statistics that were never"):
        jax_elastic.build_engine(network, variables, subnets=others)


def test_where_all_points_share_their_statistics_the_commands_know_whose_they_are():
    meta = {"recalibrated": {"subnet": "full", "workdir": "runs/all"}}
    full, half = Subnet("full"), Subnet.parse("capacity:0.5")

    assert own_points(Path("runs/one"), meta, []) == [full]
    assert own_points(Path("runs/one"), {}, []) == []
    assert own_points(Path("runs/one"), {}, [full, half]) == [full, half]
    with pytest.raises(UsageError, match="runs/one was recalibrated for full alone, not for cap"):
        own_points(Path("runs/one"), meta, [full, half])


def test_what_a_recalibrated_point_has_of_another_bank_is_unsafe_wherever_it_is_told(
    recalibrated, image, tmp_path, capsys
):
    workdir = recalibrated[0] / "resolution-0.5-0.5"
    assert run(["eval", f"--workdir={workdir}", "--platform=cpu"]) == 0
    argv = [f"--workdir={workdir}", f"--json={tmp_path / 'rows.json'}", "--platform=cpu"]
    assert run(["predict", image, *argv]) == 0

    unsafe = f"UNSAFE: parameters of the BN banks of {LOW} are those of {FULL}\n"
    assert capsys.readouterr().out.count(unsafe) == 2
    assert not (workdir / "eval.json").exists()
    of_eval = rows_of(workdir / "eval-borrowed.json", "eval")
    (of_predict,) = rows_of(tmp_path / "rows.json", "predict")
    for row in (*of_eval, of_predict):
        assert (row["subnet"], row["bank_of"], row["estimated_before"]) == (LOW, FULL, False)


@pytest.mark.parametrize("damaged", [False, True])
def test_a_trained_run_in_the_place_of_a_recalibrated_workdir_is_refused_and_kept(
    damaged, alone, tmp_path, capsys
):
    trained = tmp_path / "resolution-1-1"
    shutil.copytree(alone, trained)
    if damaged:
        (trained / CHECKPOINTS / "40" / "meta" / "metadata").write_text("{")
    source = alone if damaged else trained

    argv = [f"--workdir={source}", f"--subnet={FULL}", f"--out={tmp_path}"]
    told = error_of(["recalibrate", *argv, *SMALL], capsys)

    assert f"{trained} has checkpoints already" in told
    assert (trained / CHECKPOINTS / "40").is_dir()
    if not damaged:
        assert "recalibrated" not in load_variables(trained, EXPERIMENT)[1]


def test_a_recalibrated_workdir_is_not_written_over(low, tmp_path, capsys):
    shutil.copytree(low, tmp_path / low.name)
    before = load_variables(low, EXPERIMENT)[1]["recalibrated"]

    argv = [f"--workdir={low.parents[1]}", f"--subnet={LOW}", f"--out={tmp_path}"]
    told = error_of(["recalibrate", *argv, *SMALL, "--images=32"], capsys)

    assert f"{tmp_path / low.name} has checkpoints already" in told
    assert load_variables(tmp_path / low.name, EXPERIMENT)[1]["recalibrated"] == before


def test_a_recalibrated_workdir_is_no_source_of_another(low, capsys):
    told = error_of(["recalibrate", f"--workdir={low}", f"--subnet={FULL}", *SMALL], capsys)
    assert f"itself recalibrated, for {LOW}" in told and f"--workdir={low.parents[1]}\n" in told


def test_eval_with_another_bank_says_so_in_files_of_its_own(alone, capsys):
    flags = [f"--subnet={LOW};{FULL}", f"--bank_of={FULL}", "--platform=cpu"]
    assert run(["eval", f"--workdir={alone}", *flags]) == 0

    printed = capsys.readouterr().out
    assert f"UNSAFE: {LOW} with banks of {FULL}" in printed
    assert "\nstep 40 of 80: training is not finished\n" in printed
    rows = rows_of(alone / "eval-borrowed.json", "eval")
    assert [(row["subnet"], row["bank_of"]) for row in rows] == [(LOW, FULL), (FULL, None)]
    assert (alone / "plots-borrowed").is_dir() and not (alone / "eval.json").exists()


def test_a_bank_that_was_never_trained_is_refused_by_eval_and_told_by_recalibrate(
    alone, tmp_path, capsys
):
    argv = [f"--workdir={alone}", f"--subnet={LOW}", "--platform=cpu"]
    told = error_of(["eval", *argv], capsys)
    assert f"python -m jax_elastic recalibrate --workdir=WORKDIR --subnet={LOW}\n" in told

    assert run(["recalibrate", *argv[:2], f"--out={tmp_path}", *SMALL]) == 0

    assert "never trained, so their parameters are those of the start" in capsys.readouterr().out
    jax_elastic.build_engine(*jax_elastic.load(tmp_path / "resolution-0.5-0.5")[:2], subnets=())


def test_a_budget_is_recalibrated_at_and_recorded(workdir, tmp_path):
    rows = tmp_path / "rows.json"
    flags = ["--subnet=full", "--budget=0.5", f"--out={tmp_path}", f"--json={rows}"]
    assert run(["recalibrate", f"--workdir={workdir}", *flags, *SMALL]) == 0

    (row,) = rows_of(rows, "recalibrate")
    assert (row["budget"], row["out"]) == (0.5, str(tmp_path / "full"))
    _, meta = load_variables(tmp_path / "full", read_config(tmp_path / "full"))
    assert facts(meta)["recalibrated_budget"] == 0.5
    assert cautions(row) == ["BN statistics are those of budget 0.5, whatever is asked for"]


def test_no_run_goes_on_from_a_recalibrated_workdir(recalibrated):
    workdir = recalibrated[0] / "resolution-1-1"
    variables, _ = load_variables(workdir, EXPERIMENT)
    fresh = TrainState(**variables, opt_state=(), step=np.int32(0), seed=np.uint32(3))
    told = rf"checkpoint 40 in {workdir} holds weights alone: .* --config\.init_from={workdir}"
    with pytest.raises(UsageError, match=told):
        claim(workdir, EXPERIMENT)
    saves = Saves(workdir, 1, make_mesh(), spans(EXPERIMENT.phases, 100), {})
    with saves, pytest.raises(UsageError, match=told):
        saves.restore(fresh)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--subnet=resolution:0.7,1"], "resolution:0.7,1 does not fit this network"),
        (["--subnet=resolution:1,1,1"], "resolution:1,1,1 does not fit this network"),
        ([], "--subnet is missing"),
        ([f"--subnet={FULL}", "--budget=0.5"], "takes no budget"),
        ([f"--subnet={FULL}", "--images=31", "--batch_size=32"], "31 images do not fill a batch"),
        ([f"--subnet={FULL}", "--batch_size=4"], "batch_size 4 cannot be shared by 8 devices"),
        ([f"--subnet={FULL}", f"--bank_of={LOW}"], f"{LOW} uses BN statistics that were never"),
        ([f"--subnet={FULL}", f"--bank_of={FULL}"], f"every bank of {FULL} was estimated"),
        ([f"--subnet={FULL}", "--checkpoint=best"], "has no best checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(flags, message, alone, tmp_path, capsys):
    argv = ["recalibrate", f"--workdir={alone}", f"--out={tmp_path / 'out'}", *flags]
    told = error_of(argv, capsys)
    assert message in told and told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_point_names_its_directory():
    assert name_of(Subnet("resolution", (1, 0.7))) == "resolution-1-0.7"
    assert name_of(families.SMALL["urnet"].subnets.fullest) == "full"
