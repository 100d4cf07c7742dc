"""`latency` from flags to table, file, picture and answer, on the smallest trained network."""

import json
import math

import pytest

import jax_elastic
from jax_elastic.cli import run
from jax_elastic.cli.latency_command import describe_choice
from jax_elastic.data.datasets import load as load_data
from jax_elastic.evaluation.evaluate import Evaluator

QUICK = ("--budgets=0.5", "--engines=masked", "--rounds=1")


def rows_of(text):
    document = json.loads(text)
    assert (document["schema"], document["kind"]) == (1, "latency")
    return document["rows"]


def test_a_table_is_printed_and_left_in_the_workdir_with_its_picture(workdir, capsys):
    argv = [f"--workdir={workdir}", "--batch_sizes=1,2", "--budgets=0.5", "--rounds=2"]

    assert run(["latency", *argv]) == 0

    rows = rows_of((workdir / "latency.json").read_text())
    engines = ["static", "masked", "compacted"]
    assert [(row["batch_size"], row["engine"]) for row in rows] == [
        (size, engine) for size in (1, 2) for engine in engines
    ]
    assert {(row["data"], row["split"], row["step"], row["checkpoint"]) for row in rows} == {
        ("digits", "validation", 4, "newest")
    }
    assert "chosen" not in rows[0]
    network, variables, experiment = jax_elastic.load(workdir)
    split = load_data(experiment.data, "validation")
    (expected,) = Evaluator(network, split, experiment.data, budgets=[0.5])(variables).rows
    top1 = {(row["n"], row["top1"]) for row in rows if not row["dense"]}
    assert top1 == {(len(split), expected["top1"])}
    title, heading, *lines, picture = capsys.readouterr().out.splitlines()
    assert title.startswith(f"{workdir}, step 4, on ")
    assert title.endswith("; top-1: validation split")
    assert "time / dense  MACs / dense" in heading and len(lines) == len(rows)
    assert picture == str(workdir / "latency.png")
    assert (workdir / "latency.png").read_bytes()[:4] == b"\x89PNG"


def test_a_time_is_answered_with_a_line_for_each_batch_size_and_a_mark_in_the_file(
    workdir, tmp_path, capsys
):
    path = tmp_path / "rows.json"
    argv = [f"--workdir={workdir}", "--batch_sizes=1,2", *QUICK, f"--json={path}"]

    assert run(["latency", *argv, "--budget_ms=1e9"]) == 0

    one, two = capsys.readouterr().out.splitlines()[-2:]
    chosen = [row for row in rows_of(path.read_text()) if row["chosen"]]
    assert [row["batch_size"] for row in chosen] == [1, 2]
    assert one.startswith(f"batches of 1: {chosen[0]['subnet']} ")
    assert two.startswith(f"batches of 2: {chosen[1]['subnet']} ")


def test_an_impossible_time_names_the_fastest_point_and_loses_no_measurement(workdir, capsys):
    argv = [f"--workdir={workdir}", "--batch_sizes=2", *QUICK, "--json=-"]

    assert run(["latency", *argv, "--budget_ms=1e-6"]) == 2

    printed = capsys.readouterr()
    rows = rows_of(printed.out)
    fastest = min(rows, key=lambda row: row["ms_p99"])
    assert not any(row["chosen"] for row in rows)
    assert printed.err.startswith("error: no operating point keeps 1e-06 ms; the fastest is ")
    assert (
        f"is {fastest['subnet']} " in printed.err and f"{fastest['ms_p99']:.3g} ms" in printed.err
    )


def row(size, p99, achieved=0.58, asked=0.6):
    return {
        "subnet": "full",
        "asked": asked,
        "achieved": achieved,
        "engine": "masked",
        "batch_size": size,
        "ms_median": 2.0,
        "ms_p99": p99,
        "top1": 0.972,
    }


def test_a_batch_size_at_which_nothing_keeps_the_time_is_said():
    fit, slow = row(8, 2.5), row(64, 9.0)

    lines = describe_choice({8: fit, 64: None}, [fit, slow], 3.0)

    said = "full at budget 0.6 by masked, median 2 ms, p99 {} ms, top-1 97.2 %, "
    said += "58.0 % of the blocks open (asked: 60.0 %)"
    assert lines == [
        "batches of 8: " + said.format("2.5"),
        "batches of 64: none keeps 3 ms; the fastest is " + said.format("9"),
    ]


def test_usage_is_not_told_where_there_is_none():
    (line,) = describe_choice({8: row(8, 2.5, None, None)}, [], 3.0)
    assert line.endswith("full by masked, median 2 ms, p99 2.5 ms, top-1 97.2 %")


def test_a_run_without_a_validation_split_is_refused(workdir, tmp_path, capsys):
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["validation"] = 0
    (tmp_path / "config.json").write_text(json.dumps(config))

    assert run(["latency", f"--workdir={tmp_path}"]) == 2

    told = capsys.readouterr().err
    assert "the validation split of digits is empty: data.validation is 0; hold out" in told


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--batch_sizes=1,many"], "--batch_sizes=1,many is not a list of whole numbers"),
        (["--batch_sizes=0"], "batch sizes 0; one or more, each 1 or more"),
        (["--batch_sizes="], "batch sizes are missing"),
        (["--budget_ms=0"], "budget_ms 0 is no time; milliseconds, more than 0"),
        ([f"--budget_ms={math.nan}"], "budget_ms nan is no time"),
        (["--budget_ms=soon"], "flag --budget_ms=soon"),
        (["--rounds=0"], "flag --rounds=0"),
        (["--engines=fast"], "unknown engine 'fast'; one of masked"),
        (["--budgets=1.3"], "budget 1.3 is outside [0, 1]"),
        (["--subnet=width:3"], "width:3 does not fit this network"),
    ],
)
def test_bad_input_is_one_line_that_names_it(argv, message, workdir, capsys):
    assert run(["latency", f"--workdir={workdir}", *argv]) == 2

    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_a_workdir_must_be_named(capsys):
    assert run(["latency"]) == 2
    assert "--workdir is missing" in capsys.readouterr().err
