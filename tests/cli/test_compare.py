"""`compare` on result files that are written by hand: no network is trained or read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.cli import run
from jax_elastic.data.data_config import DataConfig
from jax_elastic.elastic.plain import Plain
from jax_elastic.evaluation import plots_anytime
from jax_elastic.evaluation.plots_anytime import draw_branch_norms
from jax_elastic.evaluation.rows import Row, write_json
from jax_elastic.training.experiment import Experiment
from jax_elastic.training.metrics import MetricsFile
from jax_elastic.training.phases import Phase
from jax_elastic.training.workdir import claim, newest_step

URNET = Path(__file__).resolve().parents[2] / "docs" / "published" / "urnet.json"
FIGURES = ["runs_against_macs", "runs_against_budget", "ranged_against_fixed"]


def row(asked: float | None, **changes: Any) -> dict[str, Any]:
    used = None if asked is None else 15 * asked
    return {
        **{"data": "cifar10", "split": "test", "step": 9, "subnet": "full", "n": 100},
        **{"top1": 0.9, "top1_ci95": [0.83, 0.94], "asked": asked, "achieved": asked},
        **{"macs_mean": 2e6 * (asked or 1), "macs_std": 1e5},
        **{"blocks_mean": used, "blocks_total": None if asked is None else 15},
        **changes,
    }


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with workdirs: several budgets, one, none, random gates, and weighted blocks."""
    drawn = {"draws": 10, "top1_draws_ci95": [0.89, 0.91]}
    for name, rows in {
        "ranged": [row(0.2), row(0.6), row(1.0)],
        "fixed": [row(0.6)],
        "base": [row(None)],
        "random": [row(0.2, **drawn), row(1.0, **drawn)],
        "weighted": [row(0.2, gate_mean=0.31, gate_std=0.1)],
        "digits": [row(0.6, data="digits")],
        "nested": [row(None, subnet=f"width:{k}", macs_mean=k * 1e6) for k in (1, 2)],
        "large": [row(None, macs_mean=3e6)],
    }.items():
        write_json(tmp_path / name / "eval.json", "eval", rows)
    write_json(tmp_path / "ranged" / "eval-train.json", "eval", [row(0.6, split="train")])
    return tmp_path


def compare(folder: Path, names: str, *flags: str) -> int:
    workdirs = ",".join(str(folder / name) for name in names.split(",") if name)
    return run(["compare", f"--workdirs={workdirs}", f"--out={folder / 'out'}", *flags])


def test_runs_are_joined_in_one_table_and_in_every_picture(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(runs, "ranged,fixed,base,random") == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["run", "subnet"]
    names = [line.split()[0] for line in lines[1:8]]
    assert names == ["ranged"] * 3 + ["fixed", "base"] + ["random"] * 2
    assert lines[8:] == [str(runs / "out" / f"{name}.png") for name in FIGURES]
    assert all(Path(line).read_bytes()[:4] == b"\x89PNG" for line in lines[8:])


def test_draws_and_weights_have_columns_where_a_run_has_them(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(runs, "random,weighted") == 0
    both = capsys.readouterr().out
    assert compare(runs, "ranged") == 0
    heading = capsys.readouterr().out.splitlines()[0]

    assert "10   [89.0, 91.0]" in both and "gate mean" in both and "0.310" in both
    assert "draws" not in heading and "gate mean" not in heading


def test_json_alone_goes_to_standard_output(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(runs, "ranged,fixed", "--labels=URNet,S = 0.6", "--json=-") == 0

    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["kind"]) == (1, "compare")
    assert [found["run"] for found in document["rows"]] == ["URNet"] * 3 + ["S = 0.6"]
    assert document["rows"][3]["flops_mean"] == 2.4e6
    assert not (runs / "out").exists()


def test_json_also_goes_to_a_file(runs: Path) -> None:
    assert compare(runs, "ranged,fixed", f"--json={runs / 'joined.json'}") == 0

    assert len(json.loads((runs / "joined.json").read_text())["rows"]) == 4


def test_without_a_range_and_a_fixed_run_there_is_no_picture_of_both(runs: Path) -> None:
    assert compare(runs, "ranged,random") == 0
    assert sorted(path.stem for path in (runs / "out").iterdir()) == sorted(FIGURES[:2])


def test_runs_without_budgets_have_accuracy_against_macs_alone(runs: Path) -> None:
    assert compare(runs, "base") == 0
    assert [path.stem for path in (runs / "out").iterdir()] == FIGURES[:1]


def test_points_along_one_axis_also_have_errors_against_macs(runs: Path) -> None:
    assert compare(runs, "nested,base") == 0
    assert {path.stem for path in (runs / "out").iterdir()} == {FIGURES[0], "error_against_macs"}


def test_combinations_of_choices_also_have_their_fronts(runs: Path) -> None:
    values = [(a, b) for a in (1, 2) for b in (1, 2)]
    rows = [row(None, subnet=f"cut:{a},{b}", macs_mean=a * b * 1e6) for a, b in values]
    write_json(runs / "cut" / "eval.json", "eval", rows)
    assert compare(runs, "cut,base") == 0
    assert {path.stem for path in (runs / "out").iterdir()} == {FIGURES[0], "fronts"}


def test_a_run_can_stand_beside_what_was_found_of_it_otherwise(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    otherwise = runs / "base" / "eval-otherwise.json"
    write_json(otherwise, "eval", [row(None, top1=0.2, top1_ci95=[0.1, 0.3])])
    assert compare(runs, "base,base/eval-otherwise.json", "--json=-") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(r["run"], r["top1"]) for r in rows] == [("base", 0.9), ("base/eval-otherwise", 0.2)]


def test_runs_in_folders_of_one_name_are_told_apart_by_as_much_of_their_paths_as_it_takes(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = ["old/deep/low", "new/deep/low", "new/low"]
    for place, path in enumerate(paths, 1):
        write_json(runs / path / "eval.json", "eval", [row(None, macs_mean=place * 1e6)])
    assert compare(runs, ",".join([*paths, "base"]), "--json=-") == 0
    found = [r["run"] for r in json.loads(capsys.readouterr().out)["rows"]]
    assert found == ["old/deep/low", "new/deep/low", "new/low", "base"]


RECALIBRATED = {
    **{"recalibrated": "width:1", "recalibrated_images": 64, "recalibrated_budget": None},
    **{"bank_of": None, "estimated_before": True},
}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({**RECALIBRATED, "recalibrated_budget": 0.5}, "BN statistics are those of budget 0.5, "),
        ({**RECALIBRATED, "estimated_before": False}, "BN layers that width:1 reads were never "),
        ({**RECALIBRATED, "bank_of": "width:2"}, "UNSAFE: parameters of the BN banks of width:1 "),
        ({"bank_of": "width:2"}, "UNSAFE: width:1 with banks of width:2, never trained for it"),
        (RECALIBRATED, None),
        ({"bank_of": None}, None),
    ],
)
def test_cautions_stand_once_below_the_table_with_the_runs_name(
    changes: dict[str, Any], told: str | None, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(None, subnet="width:1", macs_mean=m, **changes) for m in (1e6, 2e6)]
    write_json(runs / "odd" / "eval.json", "eval", rows)
    assert compare(runs, "odd,base") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("odd: ")]
    assert len(lines) == (told is not None)
    assert told is None or lines[0].startswith(f"odd: {told}")


def test_networks_of_one_name_are_one_curve(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(runs, "base,large,nested", "--labels=thin,thin,nested", "--json=-") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(r["run"], r["macs_mean"]) for r in rows[:2]] == [("thin", 2e6), ("thin", 3e6)]
    assert [r["workdir"] for r in rows[:2]] == [str(runs / "base"), str(runs / "large")]

    assert compare(runs, "base,large", "--labels=thin,thin") == 0
    assert (runs / "out" / "error_against_macs.png").exists()


def test_networks_of_one_combination_each_are_a_curve_and_no_front(runs: Path) -> None:
    for name, macs in (("a", 1e6), ("b", 2e6), ("c", 3e6)):
        rows = [row(None, subnet=f"cut:{macs / 3e6:g},1", macs_mean=macs)]
        write_json(runs / name / "eval.json", "eval", rows)
    assert compare(runs, "a,b,c", "--labels=nas,nas,nas") == 0
    assert {path.stem for path in (runs / "out").iterdir()} == {FIGURES[0], "error_against_macs"}


def write_branches(workdir: Path, *l1: float, step: int = 9) -> None:
    rows = [{"step": step, "block": 5, "branch": c, "l1": x} for c, x in enumerate(l1, 1)]
    write_json(workdir / "branches.json", "branches", rows)


def test_what_branches_carry_is_drawn_of_all_networks_that_have_some(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Row] = []

    def watched(rows: Sequence[Row], title: str) -> Figure:
        drawn.extend(rows)
        return draw_branch_norms(rows, title)

    monkeypatch.setattr(plots_anytime, "draw_branch_norms", watched)
    write_branches(runs / "nested", 3, 1)
    write_branches(runs / "base", 2, 2)
    assert compare(runs, "nested,fixed,base,large", "--labels=I,fixed,thin,thin") == 0

    assert (runs / "out" / "branch_norms.png").exists()
    found = [(row["run"], row["branch"], row["l1"]) for row in drawn]
    assert found == [("I", 1, 3), ("I", 2, 1), ("base", 1, 2), ("base", 2, 2)]


def test_branches_of_another_checkpoint_than_the_newest_are_refused(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints(runs / "nested", "9")
    write_branches(runs / "nested", 3, 1, step=8)
    assert compare(runs, "nested") == 2
    assert "branches.json is of step 8, the newest checkpoint of step 9" in capsys.readouterr().err


def write_gradients(workdir: Path) -> None:
    """A plain run of five blocks that measured gradients."""
    network = Plain(ResNet((2, 2, 1), width=8))
    phases = (Phase("only", 1.0, "base", 0.1),)
    claim(workdir, Experiment(network=network, phases=phases, data=DataConfig()))
    told = {f"gradient/block{n}": 1 / n for n in range(1, 6)}
    MetricsFile(workdir / "metrics.jsonl").append({"kind": "train", "step": 9, "steps": 9, **told})


def test_blocks_stand_beside_the_gradients_of_another_run(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gradients(runs / "base")
    shares = dict(zip((f"block{n}" for n in range(1, 5)), (1, 0.8, 0.7, 0), strict=True))
    stages = [["block1", "block2"], ["block3", "block4"], ["block5"]]
    gated = row(0.6, blocks_open=shares, blocks_stages=stages)
    write_json(runs / "gated" / "eval.json", "eval", [gated])
    beside = runs / "out" / "blocks_beside_gradients.png"

    assert compare(runs, "gated,base") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3] == "gradients of base: fall from block to block in 3 of 3 stages"
    assert lines[4].startswith("gated, full at budget 0.6, beside gradients of base: rank")
    assert lines[5].startswith("intervals of rank correlations are over the blocks of one network")
    assert str(beside) in lines and beside.exists()

    assert compare(runs, "gated,base", "--json=-") == 0
    found = json.loads(capsys.readouterr().out)["rows"]
    (one,) = found[0]["gradients"]
    assert (one["run"], one["blocks"], one["rank_correlation"]) == ("base", 4, pytest.approx(1))
    assert found[1]["gradients"] == []


def test_networks_of_other_stages_and_as_many_blocks_have_a_picture_each(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_gradients(runs / "base")
    names = [f"block{n}" for n in range(1, 6)]
    shares = dict(zip(names, (1, 0.8, 0.7, 0.2), strict=False))
    for i, ends in enumerate(((2, 4), (1, 3), (3, 4))):
        stages = [names[: ends[0]], names[ends[0] : ends[1]], names[ends[1] :]]
        own = row(None, blocks_open=shares, blocks_stages=stages, blocks_total=4, macs_mean=1e6)
        write_json(runs / f"gated{i}" / "eval.json", "eval", [own])

    assert compare(runs, "gated0,gated1,gated2,base") == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.endswith(".png")]
    paths = [runs / "out" / f"blocks_beside_gradients{name}.png" for name in ("", "_2", "_3")]
    assert [line for line in told if "gradients" in line] == list(map(str, paths))
    assert len({path.read_bytes() for path in paths}) == 3


def test_without_measured_gradients_nothing_is_said_of_them(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    MetricsFile(runs / "base" / "metrics.jsonl").append({"kind": "train", "step": 9, "steps": 9})
    assert compare(runs, "ranged,base") == 0
    assert "gradients" not in capsys.readouterr().out
    assert compare(runs, "ranged,base", "--json=-") == 0
    assert "gradients" not in json.loads(capsys.readouterr().out)["rows"][0]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "ranged",
            [
                "runs_against_macs: nothing published; no FLOPs are printed of URNet",
                "runs_against_budget: URNet (URNet, table 1); no FLOPs are printed of URNet",
                "left out: what urnet.json has on cifar100, imagenet2012",
            ],
        ),
        (
            "digits",
            [
                "urnet.json has none on digits",
                "left out: what urnet.json has on cifar10, cifar100, imagenet2012",
            ],
        ),
    ],
)
def test_papers_are_drawn_on_their_own_data_and_what_is_left_out_is_said(
    name: str, told: list[str], runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(runs, name) == 0
    alone = (runs / "out" / "runs_against_budget.png").read_bytes()
    capsys.readouterr()

    assert compare(runs, name, f"--published={URNET}:URNet") == 0

    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if line == told[0])
    assert lines[first:-1] == told
    assert lines[-1].startswith("published figures are those that urnet.json has of URNet; ")
    beside = (runs / "out" / "runs_against_budget.png").read_bytes()
    assert (beside == alone) == (name == "digits")


def test_another_split_is_read_from_its_own_file(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(runs, "ranged", "--split=train", "--json=-") == 0
    assert [r["split"] for r in json.loads(capsys.readouterr().out)["rows"]] == ["train"]


def checkpoints(workdir: Path, *names: str) -> None:
    for name in names:
        (workdir / "checkpoints" / name).mkdir(parents=True)


def test_rows_of_the_newest_checkpoint_are_compared(runs: Path) -> None:
    checkpoints(runs / "ranged", "8", "9", "12.orbax-checkpoint-tmp")
    assert compare(runs, "ranged,fixed") == 0


@pytest.mark.parametrize("newest", ["10", "7"])
def test_rows_of_another_checkpoint_than_the_newest_are_refused(
    newest: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints(runs / "ranged", "5", newest)

    assert compare(runs, "fixed,ranged", "--json=-") == 2

    captured = capsys.readouterr()
    rows = runs / "ranged" / "eval.json"
    assert f"{rows} is of step 9, the newest checkpoint of step {newest}; " in captured.err
    assert f"evaluate it again: jax-elastic eval --workdir={runs / 'ranged'} " in captured.err
    assert captured.out == ""


def test_the_newest_checkpoint_of_a_run_is_that_of_its_last_step(workdir: Path) -> None:
    assert newest_step(workdir) == 4
    assert newest_step(workdir / "checkpoints") is None


@pytest.mark.parametrize(
    ("names", "flags", "message"),
    [
        ("", (), "--workdirs is missing"),
        ("ranged,nothing", (), "evaluate it first: jax-elastic eval --workdir="),
        ("fixed", ("--split=train",), "--split=train"),
        ("ranged,digits", (), "runs differ in the data set: cifar10 (ranged), digits (digits)"),
        ("ranged,ranged", (), "two runs are called 'ranged'; give each a name of its own"),
        (
            "base,fixed",
            ("--labels=a,a",),
            "two runs are called 'a'; one name only for networks",
        ),
        ("base,base", ("--labels=a,a",), "two runs are called 'a'; one name only for networks"),
        ("ranged,fixed", ("--labels=a",), "1 labels for 2 workdirs"),
        ("ranged", ("--published=nothing.json",), "nothing.json cannot be read"),
        ("ranged", (f"--published={URNET}:SkipNet",), "has no method 'SkipNet'"),
        ("ranged", (f"--published={URNET}", "--split=train"), "papers print accuracies on test"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(
    names: str,
    flags: tuple[str, ...],
    message: str,
    runs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert compare(runs, names, *flags) == 2

    captured = capsys.readouterr()
    assert message in captured.err and captured.err.count("\n") == 1
    assert captured.out == "" and not (runs / "out").exists()
