"""`search` from flags to table, picture and answer, on small networks that were trained."""

import dataclasses
import json

import pytest
from left_run import leave_run

import jax_elastic
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli import run
from jax_elastic.cli.search_command import describe_answer, next_commands
from jax_elastic.data.data_config import DataConfig
from jax_elastic.data.datasets import load as load_data
from jax_elastic.elastic.resizable.adapt import Adapt
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.inference.measures import Measures
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.phases import Phase

NET = Resizable(ResNet((1, 1), width=4, classes=10), scales=(0.5, 1.0), side=8)
PHASE = Phase("only", 1, NET.objectives[0], 0.1)
LEARNING = Phase("learner", 1, "learner", 0.1)
EXPERIMENT = Experiment(network=NET, phases=(PHASE,), data=DataConfig())
LOW, FULL = "resolution:0.5,0.5", "resolution:1,1"
MIXED = ["resolution:0.5,1", "resolution:1,0.5"]
POINTS = [LOW, *MIXED, FULL]


@pytest.fixture(scope="module")
def resizable(tmp_path_factory):
    """The workdir of a network with four points, all trained."""
    return leave_run(tmp_path_factory.mktemp("resizable"), EXPERIMENT, *POINTS)


@pytest.fixture
def table(tmp_path):
    """Where a table of its own can be."""
    return tmp_path / "table.json"


def rows_of(text):
    document = json.loads(text)
    assert (document["schema"], document["kind"]) == (1, "search")
    return document["rows"]


def test_all_points_are_evaluated_and_the_best_within_the_limit_is_told(resizable, capsys):
    assert run(["search", f"--workdir={resizable}"]) == 0

    rows = rows_of((resizable / "search.json").read_text())
    assert [row["subnet"] for row in rows] == POINTS
    network, variables, experiment = jax_elastic.load(resizable)
    split = load_data(experiment.data, "validation")
    direct = Evaluator(network, split, experiment.data, list(network.subnets))(variables).rows
    for name, key in (("top1", "top1"), ("macs", "macs_mean"), ("n", "n")):
        assert [row[name] for row in rows] == [row[key] for row in direct]
    facts = {(row["data"], row["split"], row["step"], row["checkpoint"]) for row in rows}
    assert facts == {("digits", "validation", 40, "newest")}
    assert {len(row["hash"]) for row in rows} == {64}
    progress, title, told, heading, *_, picture, answer, test, train = (
        capsys.readouterr().out.splitlines()
    )
    assert progress == "4 of 4 operating points"
    assert title == (
        f"{resizable}, step 40: all 4 operating points; 4 in {resizable / 'search.json'}"
    )
    assert told.startswith("Pareto front of top-1 and MACs, ") and told.endswith(" of 4:")
    assert heading.split() == ["subnet", "top-1", "95", "%", "interval", "MACs", "parameters"]
    assert picture == str(resizable / "search.png")
    assert (resizable / "search.png").read_bytes()[:4] == b"\x89PNG"
    best = max(rows, key=lambda row: (row["top1"], -row["macs"]))["subnet"]
    assert answer.startswith(f"best of all: {best}, top-1 ")
    assert test == f"  python -m jax_elastic eval --workdir={resizable} --subnet={best}"
    assert f"--config.subnet={best} --config.init_from={resizable}" in train


def test_a_limit_is_kept_and_a_finished_table_is_not_measured_again(resizable, table, capsys):
    argv = ["search", f"--workdir={resizable}", f"--json={table}"]
    assert run(argv) == 0
    rows = rows_of(table.read_text())
    most = sorted(row["macs"] for row in rows)[1]
    before = table.read_bytes()
    capsys.readouterr()

    assert run([*argv, f"--max_macs={most:.0f}", "--max_params=1e9"]) == 0

    told = capsys.readouterr().out.splitlines()
    fitting = [row for row in rows if row["macs"] <= most]
    best = max(fitting, key=lambda row: (row["top1"], -row["macs"]))
    assert told[-3].startswith(f"best within {most / 1e3:.1f} K MACs and 1.00 G parameters: ")
    assert f": {best['subnet']}, top-1 " in told[-3]
    assert table.read_bytes() == before and "of 4 operating points" not in told[0]
    assert table.with_suffix(".png").exists()


def test_an_impossible_limit_is_an_error_that_names_the_nearest_and_loses_no_row(
    resizable, table, capsys
):
    argv = [f"--workdir={resizable}", f"--json={table}", "--max_macs=10"]
    assert run(["search", *argv]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: no operating point keeps 10 MACs; {LOW} comes nearest, with ")
    assert len(rows_of(table.read_text())) == 4


def test_with_few_evaluations_evolution_looks_within_the_limit(resizable, table, capsys):
    argv = [f"--workdir={resizable}", f"--json={table}", "--max_macs=1e9", "--evaluations=3"]
    assert run(["search", *argv]) == 0
    assert len(rows_of(table.read_text())) == 3
    assert "3 of 4 operating points, by evolution; 3 in " in capsys.readouterr().out


def test_points_that_are_named_are_timed_on_as_many_images_as_are_wanted(resizable, table, capsys):
    argv = [f"--workdir={resizable}", f"--json={table}", f"--subnet={LOW}", "--images=9"]

    assert run(["search", *argv, "--max_ms=1e6", "--batch_size=2"]) == 0

    (row,) = rows_of(table.read_text())
    assert (row["subnet"], row["n"], row["batch_size"]) == (LOW, 9, 2)
    assert row["ms"] > 0 and "CPU" in row["device"]
    assert " ms for batches of 2" in capsys.readouterr().out


def test_the_answer_is_one_of_the_points_that_are_named(resizable, table, capsys):
    argv = [f"--workdir={resizable}", f"--json={table}", "--max_macs=1e9"]
    assert run(["search", *argv]) == 0
    rows = rows_of(table.read_text())
    worst = min(rows, key=lambda row: (row["top1"], -row["macs"]))["subnet"]
    capsys.readouterr()

    assert run(["search", *argv, f"--subnet={worst}"]) == 0

    title, _, _, line, _, told, *_ = capsys.readouterr().out.splitlines()
    assert title.endswith(f": 1 operating point, as named; 4 in {table}")
    assert line.startswith(worst) and told.startswith(f"best within 1.00 G MACs: {worst}, top-1 ")
    assert rows_of(table.read_text()) == rows


def test_points_that_are_timed_at_another_batch_size_are_timed_anew(resizable, table):
    argv = [f"--workdir={resizable}", f"--json={table}", f"--subnet={LOW}", "--images=9", "--ms"]
    assert run(["search", *argv, "--batch_size=2"]) == 0
    (before,) = rows_of(table.read_text())

    assert run(["search", *argv, "--batch_size=1"]) == 0

    (after,) = rows_of(table.read_text())
    assert (before["batch_size"], after["batch_size"]) == (2, 1)
    assert {**after, "ms": 0, "batch_size": 0} == {**before, "ms": 0, "batch_size": 0}


def test_budgets_are_points_of_a_network_with_gates(workdir, capsys):
    argv = [f"--workdir={workdir}", "--budgets=0.9,0.3", "--json=-"]
    assert run(["search", *argv]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert [(row["subnet"], row["asked"]) for row in rows] == [("full", 0.3), ("full", 0.9)]
    assert all(0 <= row["achieved"] <= 1 for row in rows)
    assert rows_of((workdir / "search.json").read_text()) == rows


def test_points_that_were_never_trained_take_recalibration(tmp_path, capsys):
    alone = leave_run(tmp_path, EXPERIMENT, FULL)
    argv = ["search", f"--workdir={alone}", f"--subnet={LOW}"]
    assert run(argv) == 2
    assert "--recalibrate=10000" in capsys.readouterr().err

    assert run([*argv, "--recalibrate=64"]) == 0

    (row,) = rows_of((alone / "search.json").read_text())
    assert (row["subnet"], row["recalibrated_images"]) == (LOW, 64)
    told = capsys.readouterr().out.splitlines()[-2]
    assert told.split() == [
        *("python", "-m", "jax_elastic", "recalibrate", f"--workdir={alone}"),
        *(f"--subnet={LOW}", "--images=64"),
    ]


def test_a_table_of_other_images_is_not_added_to(resizable, table, capsys):
    argv = ["search", f"--workdir={resizable}", f"--json={table}", f"--subnet={LOW}"]
    assert run([*argv, "--images=9"]) == 0
    assert run([*argv, "--images=8"]) == 2
    assert "is a table of n 9; this search is of n 8" in capsys.readouterr().err


def test_an_interrupted_search_goes_on_from_what_it_measured(resizable, table, capsys, monkeypatch):
    whole, argv = Measures.__call__, ["search", f"--workdir={resizable}", f"--json={table}"]
    chunks = []

    def once(self, points, known):
        chunks.append(points)
        if len(chunks) == 2:
            raise KeyboardInterrupt
        return whole(self, points, known)

    monkeypatch.setattr("jax_elastic.inference.table.CHUNK", 3)
    monkeypatch.setattr(Measures, "__call__", once)
    assert run(argv) == 130
    told = "interrupted; the same command goes on from what its table has\n"
    assert capsys.readouterr().err == told
    assert len(rows_of(table.read_text())) == 3

    assert run(argv) == 0

    assert [len(points) for points in chunks] == [3, 1, 1]
    assert [row["subnet"] for row in rows_of(table.read_text())] == POINTS


def answer(**changes):
    return {
        "subnet": "full",
        "asked": 0.6,
        "achieved": 0.58,
        "top1": 0.972,
        "top1_ci95": (0.93, 0.99),
        "n": 143,
        "macs": 2.7e9,
        "params": 12300,
        "ms": 3.21,
        "batch_size": 8,
        "recalibrated_images": None,
        **changes,
    }


def test_an_answer_tells_all_that_is_known_of_it():
    assert describe_answer(answer(), {"macs": 2.8e9}) == (
        "best within 2.80 G MACs: full at budget 0.6, top-1 97.2 % [93.0, 99.0] of 143 "
        "validation images, 2.70 G MACs, 12.3 K parameters, 3.21 ms for batches of 8, 58.0 % of "
        "the blocks open"
    )


def test_a_point_with_a_budget_is_tested_at_it(tmp_path):
    assert next_commands(answer(), tmp_path, URNet()) == [
        f"python -m jax_elastic eval --workdir={tmp_path} --subnet=full --budgets=0.6"
    ]
    assert next_commands(answer(recalibrated_images=64), tmp_path, URNet()) == [
        f"python -m jax_elastic recalibrate --workdir={tmp_path} --subnet=full --budget=0.6 "
        "--images=64"
    ]


def test_the_training_of_a_point_of_a_single_choice_is_told_where_it_can_be_aimed_at(tmp_path):
    network = dataclasses.replace(NET, places="input")
    point = answer(subnet="resolution:0.5", asked=None, achieved=None)

    _, train = next_commands(point, tmp_path, network)

    assert f"--config.subnet=resolution:0.5 --config.init_from={tmp_path}" in train


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--max_macs=0"], "max_macs 0 is no limit; MACs, a number above 0"),
        (["--max_ms=nan"], "max_ms nan is no limit"),
        (["--max_macs=many"], "flag --max_macs=many"),
        (["--evaluations=1"], "flag --evaluations=1"),
        (["--subnet=width:3"], "width:3 does not fit this network"),
        (["--budgets=0.5"], "budget"),
    ],
)
def test_bad_input_is_one_line_that_names_it(argv, message, resizable, capsys):
    assert run(["search", f"--workdir={resizable}", *argv]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_a_workdir_must_be_named(capsys):
    assert run(["search"]) == 2
    assert "--workdir is missing" in capsys.readouterr().err


def test_candidates_of_a_choice_are_searched_by_themselves_too(tmp_path, capsys):
    choosing = dataclasses.replace(EXPERIMENT, network=Adapt(NET, width=4), phases=(LEARNING,))
    leave_run(tmp_path, choosing, LOW, FULL, "adapt:2")

    assert run(["search", f"--workdir={tmp_path}", "--images=8"]) == 0

    found = [row["subnet"] for row in rows_of((tmp_path / "search.json").read_text())]
    assert found == ["adapt:1", "adapt:2", LOW, FULL]
    assert "2 candidates of their choices by themselves" in capsys.readouterr().out
