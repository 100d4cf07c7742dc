"""A network of two label levels from its config to what `levels` says of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from toy import Toy

import jax_elastic
from jax_elastic.cli import run
from jax_elastic.cli.train_command import numbers_of
from jax_elastic.data.datasets import load as load_data
from jax_elastic.elastic.registry import FAMILIES
from jax_elastic.evaluation.evaluate import Evaluator

POINTS = [("depth:1", "class"), ("depth:1", "loops"), ("depth:2", "class"), ("depth:2", "loops")]
CONFIG = """
from ml_collections import ConfigDict


def get_config(variant):
    phase = {"name": "only", "epochs": 0.1, "objective": "both", "learning_rate": 0.1}
    return ConfigDict({
        "schema": 1,
        "network": {"family": "toy", "coarse": 3},
        "data": {"taxonomy": "digits"},
        "phases": [{**phase, "batch_size": 32}],
    })
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a family that only this file registers."""
    path = tmp_path_factory.mktemp("configs") / "toy.py"
    path.write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "toy", Toy)
        yield str(path)


@pytest.fixture(scope="module")
def workdir(config: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy")
    assert run(["train", f"--config={config}", f"--workdir={path}", "--platform=cpu"]) == 0
    return path


def changed(workdir: Path, folder: Path, **groups: dict[str, object]) -> Path:
    """A workdir with the same config but for some values, and no checkpoint."""
    values = json.loads((workdir / "config.json").read_text())
    values |= {name: {**values[name], **changes} for name, changes in groups.items()}
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def test_validations_score_the_mean_of_all_levels_and_name_each_of_them(workdir: Path) -> None:
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    (row,) = [line for line in lines if line["kind"] == "validation"]
    top1 = [row[f"top1[{subnet},{level}]"] for subnet, level in POINTS]
    assert row["score"] == pytest.approx(sum(top1) / 4)
    assert len(set(top1)) > 1


def row(top1: float, **changes: object) -> dict[str, object]:
    return {"subnet": "full", "asked": None, "achieved": None, "top1": top1, **changes}


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([row(0.5)], ["top1"]),
        (
            [row(0.5, asked=0.3, achieved=0.2), row(0.6, asked=0.6, achieved=0.7)],
            ["top1@0.3", "usage@0.3", "top1@0.6", "usage@0.6"],
        ),
        (
            [row(0.5, subnet="width:1"), row(0.6, subnet="width:2")],
            ["top1[width:1]", "top1[width:2]"],
        ),
        (
            [row(0.5, level=0, level_name="class"), row(0.6, level=1, level_name="kind")],
            ["top1[class]", "top1[kind]"],
        ),
    ],
)
def test_each_row_of_a_validation_has_a_number_of_its_own_in_the_metrics(
    rows: list[dict[str, object]], names: list[str]
) -> None:
    assert list(numbers_of(rows)) == ["score", *names]


def test_eval_has_a_row_per_level_and_draws_the_finest_and_all(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", f"--workdir={workdir}", "--platform=cpu"]) == 0

    rows = json.loads((workdir / "eval.json").read_text())["rows"]
    assert [(row["subnet"], row["level_name"]) for row in rows] == POINTS
    assert [row["level"] for row in rows] == [0, 1, 0, 1]
    assert [row["n"] for row in rows] == [359] * 4
    printed = capsys.readouterr().out
    assert "level" in printed.splitlines()[1].split() and "loops" in printed
    pictures = {path.stem for path in (workdir / "plots").iterdir()}
    assert pictures == {
        *("accuracy_against_macs", "accuracy_of_levels", "usage_against_difficulty")
    }
    (use,) = json.loads((workdir / "difficulty.json").read_text())["rows"]
    assert (use["subnet"], use["n"]) == ("depth:2", 359)
    assert not (workdir / "branches.json").exists()

    workdirs = f"--workdirs={workdir}"
    assert run(["compare", workdirs, f"--out={workdir / 'compared'}"]) == 0
    assert capsys.readouterr().out.count("loops") == 2


def test_levels_tells_the_finest_level_that_validation_images_allow(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, variables, experiment = jax_elastic.load(workdir)
    split = load_data(experiment.data, "validation")
    found = {
        (row["subnet"], row["level_name"]): row
        for row in Evaluator(network, split, experiment.data)(variables).rows
    }
    asked = found["depth:2", "loops"]["top1"]
    assert asked > max(found["depth:1", "class"]["top1"], found["depth:2", "class"]["top1"])
    capsys.readouterr()

    argv = [f"--workdir={workdir}", f"--accuracy={asked}", "--subnet=depth:2", "--platform=cpu"]
    assert run(["levels", *argv, f"--json={workdir / 'levels.json'}"]) == 0

    document = json.loads((workdir / "levels.json").read_text())
    (row,) = document["rows"]
    assert document["kind"] == "levels"
    assert (row["subnet"], row["level"], row["level_name"]) == ("depth:2", 1, "loops")
    expected = found["depth:2", "loops"]
    assert (row["top1"], row["macs_mean"]) == (asked, expected["macs_mean"])
    assert (row["split"], row["n"], row["accuracy"]) == ("validation", len(split), asked)
    heading, line = capsys.readouterr().out.splitlines()[1:]
    assert heading.split() == ["subnet", "level", "name", "top-1", "95", "%", "interval", "MACs"]
    assert line.split()[:3] == ["depth:2", "1", "loops"]


def test_a_point_that_is_accurate_at_no_level_is_said(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [f"--workdir={workdir}", "--accuracy=1", "--platform=cpu"]
    assert run(["levels", *argv, "--json=-"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["subnet"], row["level"], row["top1"]) for row in rows] == [
        ("depth:1", None, None),
        ("depth:2", None, None),
    ]

    assert run(["levels", *argv]) == 0
    assert "depth:1 reaches it at no level: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("groups", "flags", "message"),
    [
        ({}, [], "--accuracy is missing"),
        ({}, ["--accuracy=90"], "accuracy 90 is outside (0, 1]"),
        ({"network": {"coarse": 0}}, ["--accuracy=0.9"], "this network has one label level"),
        ({"data": {"validation": 0}}, ["--accuracy=0.9"], "data.validation is 0; hold out"),
        ({"data": {"taxonomy": "digit"}}, ["--accuracy=0.9"], "there is no taxonomy 'digit'"),
        ({}, ["--accuracy=0.9"], "has no checkpoint yet"),
    ],
)
def test_what_has_no_levels_to_choose_is_one_line(
    groups: dict[str, dict[str, object]],
    flags: list[str],
    message: str,
    workdir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = changed(workdir, tmp_path, **groups)
    assert run(["levels", f"--workdir={folder}", *flags, "--platform=cpu"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("changes", [{"coarse": 0}, {"coarse": 2}])
def test_training_refuses_a_network_of_other_levels_than_the_data(
    changes: dict[str, int], config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--config.network.{name}={value}" for name, value in changes.items()]
    argv = [f"--config={config}", f"--workdir={tmp_path / 'run'}", *flags, "--platform=cpu"]
    assert run(["train", *argv]) == 2
    assert "classes, digits has (10, 3): class, loops" in capsys.readouterr().err


def test_a_network_is_not_evaluated_at_other_levels_than_it_learnt(
    workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(
        (Path(jax_elastic.__file__).parent / "data/taxonomies/digits.json").read_text()
    )
    document["ancestors"]["4"] = ["no_loop"]
    file = tmp_path / "open_four.json"
    file.write_text(json.dumps(document))
    folder = changed(workdir, tmp_path, data={"taxonomy": str(file)})
    (folder / "checkpoints").symlink_to(workdir / "checkpoints")

    assert run(["eval", f"--workdir={folder}", "--platform=cpu"]) == 2

    assert "digits has other label levels than the training set had" in capsys.readouterr().err
