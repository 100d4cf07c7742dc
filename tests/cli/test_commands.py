"""The command line from flags to files, in this process, with the smallest run there can be."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_run import DIGITS, TINY

import jax_elastic
from jax_elastic.cli import run
from jax_elastic.data.augment import normalise
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import Dataset
from jax_elastic.data.datasets import load as load_data
from jax_elastic.evaluation.rows import write_json


def test_training_leaves_config_metrics_and_a_checkpoint_that_load_returns(workdir: Path) -> None:
    network, variables, experiment = jax_elastic.load(workdir)

    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    assert kinds == ["train", *["train", "validation"] * 3]
    assert json.loads((workdir / "config.json").read_text())["schema"] == 1
    assert experiment.network == network
    assert variables["params"]["stage1"]["blocks"]["gate"]["logit"]["bias"].shape == (3, 1)


def test_the_best_checkpoint_is_evaluated_into_files_of_its_own(
    workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    branches = [{"block": 5, "branch": c, "l1": 1.0} for c in (1, 2)]
    monkeypatch.setattr("jax_elastic.cli.eval_command.branch_rows", lambda variables: branches)
    flags = ["--budgets=0.5", "--checkpoint=best", "--platform=cpu"]
    assert run(["eval", f"--workdir={workdir}", *flags]) == 0

    (row,) = json.loads((workdir / "eval-best.json").read_text())["rows"]
    (best,) = (path.name for path in (workdir / "best").glob("[0-9]*"))
    assert row["step"] == int(best)
    assert (workdir / "plots-best" / "branch_norms.png").exists()
    told = json.loads((workdir / "branches-best.json").read_text())
    assert told["kind"] == "branches"
    assert told["rows"] == [{"step": int(best), **branch} for branch in branches]


def test_a_set_whose_classes_are_called_otherwise_is_not_evaluated(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def renamed(config: DataConfig, split: str) -> Dataset:
        names = tuple("abcdefghij")
        return dataclasses.replace(load_data(config, split), class_names=names)

    monkeypatch.setattr("jax_elastic.cli.eval_command.load_data", renamed)
    assert run(["eval", f"--workdir={workdir}", "--platform=cpu"]) == 2
    told = "digits has the classes a, b, c, d, e and 5 more; those of the training set: 0, 1, 2"
    assert told in capsys.readouterr().err


def test_training_reads_no_test_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def watched(config: DataConfig, split: str) -> Dataset:
        read.append(split)
        return load_data(config, split)

    monkeypatch.setattr("jax_elastic.cli.train_command.load", watched)
    monkeypatch.setattr("jax_elastic.data.datasets.load", watched)
    # Interrupted right after all has been read.
    monkeypatch.setattr("jax_elastic.training.loop._Run.start", interrupt)
    assert run(["train", f"--config={DIGITS}", f"--workdir={tmp_path}", "--platform=cpu"]) == 130

    assert sorted(set(read)) == ["train", "validation"]


def interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_loaded_network_predicts_through_an_engine_at_a_budget(workdir: Path) -> None:
    network, variables, experiment = jax_elastic.load(workdir)
    dataset = load_data(experiment.data, "test")
    engine = jax_elastic.build_engine(network, variables, "masked")

    prediction = engine(normalise(dataset.images[:5], experiment.data), budget=0.6)

    assert prediction.logits[0].shape == (5, 10)
    assert prediction.gates is not None and prediction.gates.shape == (5, 3)


def test_eval_writes_rows_of_every_budget_and_the_pictures(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [{"subnet": "full", "asked": asked, "level": None} for asked in (0.1, 0.3)]
    write_json(workdir / "eval.json", "eval", before)
    assert run(["eval", f"--workdir={workdir}", "--budgets=0.3,0.9"]) == 0

    document = json.loads((workdir / "eval.json").read_text())
    rows = document["rows"]
    assert (document["schema"], document["kind"]) == (1, "eval")
    assert [row["asked"] for row in rows] == [0.3, 0.9]
    assert {row["n"] for row in rows} == {359}  # the whole test split
    assert {(row["data"], row["split"], row["step"]) for row in rows} == {("digits", "test", 4)}
    named = {"subnet", "top1", "top1_ci95", "blocks_mean", "blocks_std", "blocks_p99", "macs_mean"}
    assert named | {"macs_std", "achieved", "tracking_error"} <= set(rows[0])
    assert "top5" not in rows[0]
    printed = capsys.readouterr().out
    pictures = [Path(line) for line in printed.splitlines() if line.endswith(".png")]
    assert {"accuracy_against_macs", "block_usage_map"} <= {picture.stem for picture in pictures}
    assert all(picture.stat().st_size for picture in pictures)
    assert "90.0 %" in printed
    assert ": 2 rows on the test split\n" in printed
    unused = set(rows[0]["blocks_never"]) & set(rows[1]["blocks_never"])
    assert printed.count("opened for none of 359 images") == bool(unused)
    assert f"{workdir / 'eval.json'} had 1 other row, replaced\n" in printed
    assert "not finished" not in printed


def test_eval_prints_only_json_where_that_is_asked_for(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", f"--workdir={workdir}", "--budgets=0.5", "--json=-"]) == 0

    document = json.loads(capsys.readouterr().out)
    assert [row["asked"] for row in document["rows"]] == [0.5]


@pytest.mark.parametrize(
    ("config", "macs", "gates", "params"),
    [
        # docs/choices.md B2, U1: both networks' MACs and parameters, and the gates' overhead.
        ("configs/urnet_cifar10.py:32,base", 68_862_592, 0, 464_154),
        ("configs/urnet_cifar10.py:base", 252_887_680, 0, 1_727_962),
        ("configs/urnet_cifar10.py:110", 252_887_680 + 93_912, 93_912, None),
    ],
)
def test_macs_of_a_config_are_the_papers(
    config: str, macs: int, gates: int, params: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["macs", f"--config={config}", "--json=-"]) == 0

    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["subnet"], row["macs"], row["gates"]) == ("full", macs, gates)
    assert row["executed_macs"] == macs and row["flops"] == 2 * macs
    assert row["fixed"] + sum(row["blocks"]) + row["gates"] == macs
    assert params is None or row["params"] == params
    assert row["params_gates"] == 0 or gates


def test_macs_prints_what_each_block_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["macs", "--config=configs/urnet_cifar10.py:32"]) == 0

    printed = capsys.readouterr().out
    assert "\nof gates: of what decides for each image what runs; " in printed
    assert "executed" not in printed  # which here is the same
    assert "68,885,888" in printed  # 68,862,592 and the gates' 23,296
    assert "6: 3.54 M" in printed and "15: 4.72 M" in printed


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "unknown command 'trian'"),
        (["train", "--wrkdir=x"], "Did you mean: workdir"),
        (["train", "x"], "'x' is not a flag"),
        (["train", "--config"], "--config has no value"),
        (["train", "--config=configs/nothing.py"], "there is no config file"),
        (["macs", f"--config={DIGITS}:bse"], "unknown variant 'bse'"),
        (["macs", "--config=configs/urnet_cifar10.py:32,110"], "exclude each other"),
        (["macs", "--config.network.bta=1"], "did you mean config.network.beta?"),
        (["macs", "--config.phases.jont.epochs=1"], "did you mean config.phases.joint?"),
        (["macs", "--config.seed.x=1"], "config.seed is a value"),
        (["macs", "--config.network=1"], "config.network is a group of keys"),
        (["macs", "--config.network.beta=much"], "could not convert string to float"),
        (["macs", "--config.network.s_min=-0.1"], "0 <= s_min <= s_max <= 1"),
        (["macs", "--config.network.family=urnt"], "one of plain, urnet"),
        (["macs", "--subnet=width:3"], "operating point width:3 does not fit this network"),
        (["macs", "--subnet=full;3:"], "'3:' is not an operating point"),
        (["train", "--platform=abacus"], "cpu, gpu or tpu"),
        (["train", "--platform=tpu"], "platform 'tpu' is not there"),
        (["train", "--config=configs/resizable_digits.py:nas"], "config.subnet is empty"),
        (["train", "--config.data.name=digts"], "unknown dataset 'digts'"),
        (["eval"], "--workdir is missing"),
        (["eval", "--workdir=nowhere"], "nowhere is not a workdir"),
    ],
)
def test_bad_input_is_one_line_that_names_it_and_exit_code_2(
    argv: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    command, *flags = argv
    workdir = [f"--workdir={tmp_path / 'run'}"] if command == "train" else []

    assert run([command, *workdir, *flags]) == 2

    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--budgets=1.3", "budget 1.3 is outside [0, 1]"),
        ("--budgets=half", "is not a list of numbers"),
        ("--budgets=", "is not a list of numbers"),
        ("--subnet=resolution:1,.7", "does not fit this network"),
        ("--split=dev", "unknown split 'dev'"),
        ("--sample=2", "2 of 1 operating points cannot be sampled"),
    ],
)
def test_eval_refuses_what_the_network_does_not_have(
    flag: str, message: str, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", f"--workdir={workdir}", flag]) == 2

    assert message in capsys.readouterr().err


def test_another_split_does_not_replace_the_test_split(workdir: Path) -> None:
    assert run(["eval", f"--workdir={workdir}", "--budgets=0.5"]) == 0
    assert run(["eval", f"--workdir={workdir}", "--budgets=0.5", "--split=validation"]) == 0

    (row,) = json.loads((workdir / "eval-validation.json").read_text())["rows"]
    assert (row["split"], row["n"]) == ("validation", 143)
    test = json.loads((workdir / "eval.json").read_text())["rows"]
    assert {row["split"] for row in test} == {"test"}


def test_a_workdir_that_is_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()

    assert run(["train", f"--workdir={tmp_path / 'file'}"]) == 2

    assert "file is a file; a directory" in capsys.readouterr().err


def test_a_workdir_refuses_another_config_and_names_what_differs(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = [*TINY, "--config.network.beta=3"]

    assert run(["train", f"--config={DIGITS}", f"--workdir={workdir}", *changed]) == 2

    assert "config.network.beta: 8.0 -> 3.0" in capsys.readouterr().err


def test_a_finished_run_that_is_started_again_changes_nothing(
    workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = jax_elastic.load(workdir)[1]
    metrics = (workdir / "metrics.jsonl").read_text()

    argv = ["train", f"--config={DIGITS}", f"--workdir={workdir}", *TINY]
    assert run([*argv, "--config.runtime.log_every=7"]) == 0

    assert "resuming at step 4 of 4" in capsys.readouterr().out
    kernel = jax_elastic.load(workdir)[1]["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel, before["params"]["stem"]["conv"]["kernel"])
    assert (workdir / "metrics.jsonl").read_text() == metrics


def test_a_key_that_the_config_file_leaves_out_can_be_set_by_flag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["macs", f"--config={DIGITS}", "--config.network.reduction", "4", "--json=-"]) == 0

    (row,) = json.loads(capsys.readouterr().out)["rows"]
    # C // 4 hidden units and an output see 2C numbers: (2C + 1) C/4 MACs; a stage's first block
    # sees the channels of the stage before.
    assert row["gates"] == 6 * 17 * 2 + 5 * 33 * 4 + 4 * 65 * 8


@pytest.mark.parametrize("argv", [[], ["--help"], ["train", "--help"], ["macs", "-h"]])
def test_help_lists_commands_or_flags(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = run(argv)
    except SystemExit as stop:
        code = int(stop.code or 0)

    assert code == 0
    assert "--" in capsys.readouterr().out
