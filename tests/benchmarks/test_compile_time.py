"""What is timed is the loop's compiling; times are made up here."""

import dataclasses

import pytest

from benchmarks import compile_time
from benchmarks.train_step import resnet
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.evaluation.rows import read_json

SECONDS = {(20, "cold"): 8.0, (20, "warm"): 1.0, (110, "cold"): 8.4, (110, "warm"): 2.5}


@pytest.fixture
def processes(monkeypatch):
    """What each process would have found in which cache; their times are made up."""
    asked = []

    def run(depth, directory, platform):
        cache = "warm" if ("cold", directory) in asked else "cold"
        asked.append((cache, directory))
        return SECONDS[depth, cache]

    monkeypatch.setattr(compile_time, "in_a_process", run)
    return asked


def test_the_dispatch_that_is_timed_is_the_loops_chunk(caplog):
    experiment = resnet(20)
    small = dataclasses.replace(experiment.network, backbone=ResNet((1, 1), width=4))

    with caplog.at_level("DEBUG", logger="jax"):
        compile_time.compile_seconds(dataclasses.replace(experiment, network=small))

    compiled = [r.message for r in caplog.records if "Finished XLA compilation" in r.message]
    assert sum("jit(chunk)" in message for message in compiled) == 1


def test_every_round_compiles_in_an_empty_cache_and_then_in_what_that_left(processes):
    compile_time.measure(3, None)

    assert [kind for kind, _ in processes] == ["cold", "warm"] * 6
    assert len({cache for _, cache in processes}) == 6


def test_the_table_tells_seconds_by_depth_and_what_depth_costs(processes, tmp_path, capsys):
    path = tmp_path / "rows.json"

    compile_time.main([f"--json={path}", "--rounds=3", "--compilation_cache="])

    rows = {row["form"]: row for row in read_json(path, "compile_times")}
    deep = rows["ResNet-110, cold"]
    assert deep["seconds"] == 8.4 and deep["kept"]
    assert deep["ratio"] == pytest.approx(1.05) and deep["ratio_kept"]
    assert not rows["ResNet-110, warm"]["kept"]
    assert rows["ResNet-20, cold"]["bar"] is None
    assert "ResNet-110, warm" in capsys.readouterr().out
