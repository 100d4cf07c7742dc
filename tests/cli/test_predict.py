"""`predict` from image files to rows, on the smallest trained network and on every kind of one."""

import json

import numpy as np
import pytest
from PIL import Image

import jax_elastic
from jax_elastic.cli import predict_command, run
from jax_elastic.data.augment import normalise
from jax_elastic.data.datasets import load as load_data
from jax_elastic.evaluation.cost import CostModel


@pytest.fixture(scope="module")
def digits(workdir):
    """The first five digits of the test split, (5, 8, 8, 1) uint8."""
    _, _, experiment = jax_elastic.load(workdir)
    return load_data(experiment.data, "test").images[:5]


@pytest.fixture
def folder(digits, tmp_path):
    """The digits as files."""
    for i, digit in enumerate(digits):
        Image.fromarray(digit[..., 0]).save(tmp_path / f"{i}.png")
    return tmp_path


def rows_of(argv, capsys):
    assert run(["predict", "--json=-", *argv]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["kind"]) == (1, "predict")
    return document["rows"]


def test_rows_are_what_the_engine_says_of_the_pixels_in_the_files(workdir, folder, digits, capsys):
    network, variables, experiment = jax_elastic.load(workdir)
    found = jax_elastic.build_engine(network, variables, "masked")(
        normalise(digits, experiment.data), budget=0.6
    )
    logits, opened = np.asarray(found.logits[0], float), np.asarray(found.gates) >= 0
    cost = CostModel(network, (8, 8, 1)).cost(network.subnets.fullest)

    rows = rows_of([str(folder), f"--workdir={workdir}", "--budget=0.6"], capsys)

    assert [row["file"] for row in rows] == [str(folder / f"{i}.png") for i in range(5)]
    assert [row["label"] for row in rows] == list(logits.argmax(1))
    assert [row["blocks"] for row in rows] == list(opened.sum(1))
    assert [row["macs"] for row in rows] == list(cost.of(opened))
    assert [row["opened"] for row in rows] == [
        "".join(map(str, image.astype(int))) for image in opened
    ]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    # Two programs may add a convolution's terms in another order.
    np.testing.assert_allclose([row["confidence"] for row in rows], shares.max(1), rtol=1e-5)
    for row in rows:
        assert row["macs_share"] == row["macs"] / cost.full
        assert row["achieved"] == row["blocks"] / row["blocks_total"]
        assert (row["data"], row["step"], row["subnet"], row["asked"]) == ("digits", 4, "full", 0.6)
        assert (row["size"], row["changes"]) == ([8, 8], [])


def test_the_table_has_a_line_per_image_and_what_was_used_beside_what_was_asked(
    workdir, folder, capsys
):
    assert run(["predict", f"--workdir={workdir}", "--budget=0.6", f"{folder}/[0-2].png"]) == 0

    title, heading, *lines, usage = capsys.readouterr().out.splitlines()
    assert title == f"{workdir}, step 4, operating point full"
    assert " ".join(heading.split()) == "file class confidence of 3 blocks MACs of full"
    assert [line.split()[0] for line in lines] == [f"{folder}/{i}.png" for i in range(3)]
    assert usage.startswith("open on average: ") and "; asked: 60.0 %, error " in usage


def test_what_was_changed_in_an_image_is_said(workdir, folder, capsys):
    Image.new("RGBA", (28, 14), (0, 0, 0, 9)).save(folder / "5.png")

    assert run(["predict", str(folder), f"--workdir={workdir}", "--budget=1"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("changes")
    assert lines[7].endswith("laid on white, colour -> grey, 14x28 -> 8x8")
    assert not lines[6].endswith("8x8")


def test_files_that_cannot_be_read_are_named_after_the_others_are_told(workdir, folder, capsys):
    (folder / "1.png").write_text("no image")
    (folder / "3.png").write_bytes(b"")
    rows = folder / "rows.json"

    argv = [str(folder), f"--workdir={workdir}", "--budget=0.6", f"--json={rows}"]
    assert run(["predict", *argv]) == 2

    printed = capsys.readouterr()
    assert printed.err == (
        f"error: 2 of 5 files cannot be read: {folder}/1.png (it is no image), "
        f"{folder}/3.png (it is empty)\n"
    )
    files = [row["file"] for row in json.loads(rows.read_text())["rows"]]
    assert files == [f"{folder}/{i}.png" for i in (0, 2, 4)]
    assert all(file in printed.out for file in files)


def test_where_no_file_can_be_read_nothing_else_is_told(workdir, tmp_path, capsys):
    (tmp_path / "a.png").touch()

    assert run(["predict", str(tmp_path), f"--workdir={workdir}", "--budget=0.6", "--json=-"]) == 2

    printed = capsys.readouterr()
    assert printed.out == "" and "1 of 1 files" in printed.err


@pytest.mark.parametrize("options", [["--engine=sequential", "--batch_size=1"], ["--batch_size=2"]])
def test_the_engine_and_the_size_of_batches_change_no_answer(options, workdir, folder, capsys):
    argv = [str(folder), f"--workdir={workdir}", "--budget=0.6"]

    rows = rows_of([*argv, *options], capsys)

    for row, expected in zip(rows, rows_of(argv, capsys), strict=True):
        # Other programs add in another order.
        assert row.pop("confidence") == pytest.approx(expected["confidence"], rel=1e-5)
        assert row.items() <= expected.items()


def test_classes_are_named_as_the_checkpoint_says(workdir, folder, capsys, monkeypatch):
    def with_names(*args):
        variables, meta = load_variables(*args)
        return variables, {**meta, "class_names": [f"digit {i}" for i in range(10)]}

    load_variables = predict_command.load_variables
    monkeypatch.setattr(predict_command, "load_variables", with_names)

    rows = rows_of([str(folder), f"--workdir={workdir}", "--budget=0.6"], capsys)

    assert [row["class"] for row in rows] == [f"digit {row['label']}" for row in rows]


def test_a_name_after_two_dashes_is_no_flag(workdir, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "0.png").rename(folder / "--0.png")
    rows = rows_of([f"--workdir={workdir}", "--budget", "0.6", "--", "--0.png"], capsys)
    assert [row["file"] for row in rows] == ["--0.png"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--budget=0.6"], "IMAGES are missing"),
        (["nothing.png", "no/*.png", "--budget=0.6"], "at nothing.png, no/*.png; a file, a folder"),
        (["."], "this network needs a budget; the share of its blocks"),
        (["."], "on the command line --budget=0.6\n"),
        ([".", "--budget=1.3"], "budget 1.3 is outside [0, 1]; ask for a share of the blocks"),
        ([".", "--budget=nan"], "budget nan is outside [0, 1]"),
        ([".", "--budget=half"], "flag --budget=half"),
        ([".", "--budgets=0.3,0.6"], "Did you mean: budget"),
        ([".", "--budget=1", "--subnet=full;full"], "--subnet=full;full names 2 operating points"),
        ([".", "--budget=1", "--subnet=width:3"], "width:3 does not fit this network"),
        ([".", "--budget=1", "--engine=fast"], "unknown engine 'fast'; one of auto, masked"),
        ([".", "--budget=1", "--batch_size=0"], "flag --batch_size=0"),
    ],
)
def test_bad_input_is_one_line_that_names_it(argv, message, workdir, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)

    assert run(["predict", *argv, f"--workdir={workdir}"]) == 2

    printed = capsys.readouterr()
    assert message in printed.err and printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1 and printed.out == ""


def test_a_workdir_must_be_named(folder, capsys):
    assert run(["predict", str(folder)]) == 2
    assert "--workdir is missing" in capsys.readouterr().err


def test_help_says_what_images_can_be(capsys):
    with pytest.raises(SystemExit):
        run(["predict", "--help"])
    assert "IMAGES are files, folders" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("budget", "told"), [(0.5, "error 0.0 %"), (0.8, "error 30.0 %, not reached"), (None, "50.0 %")]
)
def test_a_budget_that_is_missed_is_said(budget, told):
    rows = [{"opened": "10"}, {"opened": "01"}]
    (line,) = predict_command._describe_usage(rows, budget, False)
    assert told in line and line.endswith(told) == (budget is not None)
    assert ("asked" in line) == (budget is not None)


def test_one_draw_of_random_gates_is_said():
    assert predict_command._describe_usage([{"opened": "10"}], 0.5, True)[1].endswith("drawn once")


def test_columns_of_blocks_and_changes_are_left_out_where_no_image_has_any():
    blocks = dict.fromkeys(("blocks", "blocks_total", "opened"))
    row = {"file": "a", "class": "0", "confidence": 1.0, "macs": 9, "macs_share": 1.0, **blocks}
    rows = [{**row, "changes": []}]
    keys = [column.key for column in predict_command._columns(rows)]
    assert keys == ["file", "class", "confidence", "macs", "macs_share"]
    assert predict_command._describe_usage(rows, None, False) == []


@pytest.mark.parametrize(("choice", "lines"), [("width:2", 1), (None, 0)])
def test_where_images_choose_it_is_said_what_full_has_in_it(choice, lines):
    assert len(predict_command._describe_choices([{"choice": choice}])) == lines
