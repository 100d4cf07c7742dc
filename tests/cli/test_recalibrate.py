"""`recalibrate`, and `eval` with borrowed banks, of a network that was trained at one point."""

import json

import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm

import jax_elastic
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli import run
from jax_elastic.cli.recalibrate_command import name_of
from jax_elastic.data.datasets import DataConfig
from jax_elastic.data.datasets import load as load_data
from jax_elastic.data.order import batch_ids
from jax_elastic.elastic.reads import statistics_read
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.subnet import Subnet
from jax_elastic.training.checkpoint import Checkpoints
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.mesh import make_mesh
from jax_elastic.training.phases import Phase, spans
from jax_elastic.training.saves import Saves
from jax_elastic.training.state import TrainState
from jax_elastic.training.workdir import CHECKPOINTS, claim, load_variables

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
    workdir = tmp_path_factory.mktemp("alone")
    fresh = warm.random_weights(NET, 1)
    kernel = fresh["params"]["stem"]["conv"]["kernel"]
    fresh["params"]["stem"]["conv"]["kernel"] = kernel[:, :, :1]  # digits are grey

    def trained(mask, leaf):
        return jnp.where(mask, leaf + jnp.asarray(1, leaf.dtype), leaf)

    stats = jax.tree.map(trained, statistics_read(NET, fresh, Subnet.parse(FULL)), fresh["stats"])
    claim(workdir, EXPERIMENT)
    names = [str(i) for i in range(10)]
    with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
        items = {"variables": {"params": fresh["params"], "stats": stats}}
        checkpoints.save(40, items, {"phase": 0, "phase_name": "only", "class_names": names})
    return workdir


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


def test_eval_of_a_recalibrated_workdir_shows_its_point_and_says_so(recalibrated):
    workdir = recalibrated[0] / "resolution-0.5-0.5"
    assert run(["eval", f"--workdir={workdir}", "--platform=cpu"]) == 0

    (row,) = rows_of(workdir / "eval.json", "eval")
    assert (row["subnet"], row["step"], row["recalibrated"]) == (LOW, 40, LOW)
    assert (row["recalibrated_images"], row["recalibrated_bank_of"]) == (64, FULL)


def test_eval_with_another_bank_says_so_in_files_of_its_own(alone, capsys):
    flags = [f"--subnet={LOW};{FULL}", f"--bank_of={FULL}", "--platform=cpu"]
    assert run(["eval", f"--workdir={alone}", *flags]) == 0

    assert f"UNSAFE: {LOW} with banks of {FULL}" in capsys.readouterr().out
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


def test_no_run_goes_on_from_a_recalibrated_workdir(recalibrated):
    workdir = recalibrated[0] / "resolution-1-1"
    variables, _ = load_variables(workdir, EXPERIMENT)
    fresh = TrainState(**variables, opt_state=(), step=np.int32(0), seed=np.uint32(3))
    told = r"checkpoint 40 holds weights alone: .* --config\.init_from"
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
