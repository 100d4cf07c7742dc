"""`eval --difficulty`: which runs may tell how hard images are, and what is written of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_run import DIGITS

from jax_elastic.cli import run
from jax_elastic.cli.difficulty import check_same_images, held_against, tell_use
from jax_elastic.cli.flags import read_config
from jax_elastic.data.datasets import Dataset, load
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.difficulty import spent
from jax_elastic.evaluation.evaluate import Evaluation
from jax_elastic.training.experiment import to_config


def of_config(path: Path, *changes: str) -> Path:
    """A workdir of a config alone."""
    experiment, _ = read_config([f"--config={DIGITS}", *changes], DIGITS)
    path.mkdir()
    (path / "config.json").write_text(json.dumps(to_config(experiment)))
    return path


def validation() -> Dataset:
    """The images that the config holds out."""
    return load(read_config([f"--config={DIGITS}"], DIGITS)[0].data, "validation")


def evaluation(images: int, gated: bool) -> Evaluation:
    row = {"subnet": "full", "asked": None, "n": images}
    one, opened = np.ones(images), np.ones((images, 3)) if gated else None
    answer = np.ones((1, images), np.int32)
    return Evaluation([row], [one], [opened], [one], [None], [answer], [one])


def test_eval_tells_use_by_the_quarters_of_another_runs_loss(
    workdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--workdir={workdir}", f"--difficulty={workdir}", "--budgets=0.6"]
    assert run(["eval", *flags, f"--json={tmp_path / 'rows.json'}", "--platform=cpu"]) == 0

    document = json.loads((workdir / "difficulty.json").read_text())
    (row,) = document["rows"]
    assert (document["kind"], row["difficulty"], row["asked"]) == ("difficulty", str(workdir), 0.6)
    assert (row["unit"], len(row["used_mean"])) == ("blocks", 4)
    assert (workdir / "plots" / "usage_against_difficulty.png").exists()
    told = capsys.readouterr().out
    assert f"what images use, by quarters of the loss of {workdir.name}" in told
    assert "\nintervals are over the images, of this one network" in told


def test_what_another_judge_left_is_said_to_be_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, path = spent(evaluation(8, gated=True), np.arange(8.0)), tmp_path / "difficulty.json"

    for judge in ("runs/plain", "runs/plain", ""):
        tell_use(pairs, path, judge, 4, "title")

    told = capsys.readouterr().out
    assert told.count(", replaced") == 1
    assert f"{path} had quarters of the loss of plain, replaced" in told


def test_a_measure_of_difficulty_of_which_nothing_would_be_told_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [f"--workdir={tmp_path}", "--difficulty=runs/plain", "--json=-"]
    assert run(["eval", *flags]) == 2
    assert "--difficulty beside --json=-" in capsys.readouterr().err


def test_a_run_of_the_same_images_is_let_pass(tmp_path: Path) -> None:
    check_same_images(of_config(tmp_path / "same"), validation(), "validation")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("--config.data.name=digits_hard", "is of digits_hard, not of digits"),
        ("--config.data.validation=0.3", "is of digits, but its validation split holds other"),
    ],
    ids=["set", "share"],
)
def test_a_run_of_other_images_is_refused(change: str, told: str, tmp_path: Path) -> None:
    other = of_config(tmp_path / "other", change)
    with pytest.raises(UsageError, match=f"--difficulty={other} {told}.*the same split"):
        check_same_images(other, validation(), "validation")


def test_a_network_of_which_every_image_uses_as_much_is_refused() -> None:
    images = validation()
    found = evaluation(len(images), gated=False)
    with pytest.raises(UsageError, match="a network that drops blocks or chooses points"):
        held_against(found, images, "runs/plain", 256)
    assert held_against(found, images, "", 256) == []


def test_too_few_images_for_quarters_tell_nothing_where_nobody_asks() -> None:
    few = validation().take(np.arange(7))
    assert held_against(evaluation(7, gated=True), few, "", 256) == []
