"""`macs` on a network with more operating points than anyone reads."""

import json
from pathlib import Path
from typing import Any

import families
import pytest

from jax_elastic.cli import run
from jax_elastic.cli.flags import read_config
from jax_elastic.cli.macs_command import count, explain, telling
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.subnet import Subnet
from jax_elastic.training.experiment import to_config

CONFIG = """
from ml_collections import ConfigDict


def get_config(variant):
    network = {
        "family": "resizable",
        "backbone": {"stage_sizes": (1, 1, 1, 1), "width": 4},
        "scales": (0.5, 0.75, 1.0),
        "side": 16,
    }
    phase = {"name": "train", "objective": "fair", "epochs": 1.0, "batch_size": 32}
    phase["learning_rate"] = 0.1
    return ConfigDict(
        {"schema": 1, "seed": 0, "data": {"name": "digits"}, "network": network, "phases": (phase,)}
    )
"""
ENDS = ["resolution:0.5,0.5,0.5,0.5", "resolution:1,1,1,1"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A network with 81 operating points."""
    path = tmp_path / "small.py"
    path.write_text(CONFIG)
    return path


def rows_of(printed: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(printed)["rows"]
    return rows


def test_of_many_points_the_ends_are_counted_and_those_asked_for_in_any_spelling(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = "--subnet=resolution:1.0, .75,0.50,1;resolution:1,1,1,1"
    assert run(["macs", f"--config={config}", asked, "--json=-"]) == 0

    rows = rows_of(capsys.readouterr().out)
    assert [row["subnet"] for row in rows] == [*ENDS, "resolution:1,0.75,0.5,1"]
    assert rows[0]["macs"] < rows[2]["macs"] < rows[1]["macs"]


def test_all_points_are_counted_where_that_is_asked_for(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config.with_name("rows.json")
    assert run(["macs", f"--config={config}", "--all", f"--json={path}"]) == 0

    rows = rows_of(path.read_text())
    experiment, _ = read_config([f"--config={config}"], "")
    network = experiment.network
    assert isinstance(network, Resizable)
    assert [row["subnet"] for row in rows] == [str(subnet) for subnet in network.subnets]
    model = CostModel(network, experiment.data.image_shape)
    one = Subnet("resolution", (1, 0.75, 0.5, 1))
    (row,) = (row for row in rows if row["subnet"] == str(one))
    assert row["macs"] == model.cost(one).full
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["subnet", *(row["subnet"] for row in rows)]


@pytest.mark.parametrize(
    ("taxonomy", "told"),
    [
        ("nope", "there is no taxonomy 'nope'; one of "),
        ("digits", "the network has (10,) classes, digits has (10, 3): class, loops; set the "),
    ],
)
def test_a_taxonomy_that_training_would_refuse_is_refused(
    taxonomy: str, told: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["macs", f"--config={config}", f"--config.data.taxonomy={taxonomy}"]) == 2
    assert told in capsys.readouterr().err


def counted(macs: int, executed: int, gates: int) -> dict[str, Any]:
    return {"macs": macs, "executed_macs": executed, "gates": gates, "params_gates": gates}


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        ([counted(5, 5, 0), counted(9, 9, 0)], set()),
        ([counted(5, 5, 0), counted(9, 12, 0)], {"executed_macs"}),
        ([counted(5, 5, 0), counted(9, 9, 1)], {"gates", "params_gates"}),
    ],
)
def test_columns_of_executed_macs_and_of_gates_are_shown_where_they_tell_something(
    rows: list[dict[str, Any]], shown: set[str]
) -> None:
    found = {column.key for column in telling(rows)}
    assert found & {"executed_macs", "gates", "params_gates"} == shown
    assert {"subnet", "macs", "params"} < found


@pytest.mark.parametrize(
    ("network", "told"),
    [("adapt", "all gates open, of candidates the dearest"), ("urnet", "all gates open")],
)
def test_of_candidates_the_legend_says_which_is_counted(network: str, told: str) -> None:
    (line,) = explain(telling([counted(9, 9, 1)]), families.SMALL[network])
    assert line.endswith(told)


def test_what_decides_is_told_as_a_share_of_all_other_macs() -> None:
    (row,) = count(families.SMALL["sgad"], (8, 8, 3))
    (plain,) = count(families.SMALL["plain"], (8, 8, 3))
    assert row["gates_share"] == row["gates"] / plain["macs"] > 0
    assert plain["gates_share"] == 0


def test_the_network_of_a_run_is_counted_by_its_workdir(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment, _ = read_config([f"--config={config}"], "")
    (config.parent / "config.json").write_text(json.dumps(to_config(experiment)))

    assert run(["macs", f"--workdir={config.parent}", "--json=-"]) == 0

    assert [row["subnet"] for row in rows_of(capsys.readouterr().out)] == ENDS


@pytest.mark.parametrize("flag", ["--config=x.py", "--config.seed=1"])
def test_a_config_beside_a_workdir_is_refused(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["macs", f"--workdir={tmp_path}", flag]) == 2

    assert f"--workdir={tmp_path} and {flag} both tell a network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("subnet", "told"),
    [
        ("resolution:1,0.8,1,1", "with each v from {0.5, 0.75, 1}"),
        ("resolution:1,1,1", "it takes resolution:v,v,v,v"),
        ("width:1", "it takes resolution:v,v,v,v"),
    ],
)
def test_a_point_that_the_network_does_not_have_is_refused_also_beside_all(
    subnet: str, told: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["macs", f"--config={config}", "--all", f"--subnet={subnet}"]) == 2

    assert told in capsys.readouterr().err
