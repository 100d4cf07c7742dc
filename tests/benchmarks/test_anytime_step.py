"""What is timed is what training runs; times are made up here."""

import dataclasses

import jax
import numpy as np
import pytest

from benchmarks import anytime_step, steps
from benchmarks.anytime_step import APART, PLAIN, LastExit, experiment, iresnext
from benchmarks.steps import Memory, Ready
from jax_elastic.backbones.isresnext import ISResNeXt as Architecture
from jax_elastic.backbones.resnext import ResNeXt
from jax_elastic.elastic.anytime.iresnext import IResNeXt
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.rows import read_json
from jax_elastic.subnet import Subnet

WIDE = IResNeXt(ResNeXt((1,), width=4, branches=2, branch_width=2), 2)
TRIANGULAR = Architecture((1,), width=4, branches=2, branch_width=2, subfeatures=2)
SECONDS = {
    APART: 2.0,
    "sliced": 1.0,
    "scan_switch": 1.0,
    "host": 2.2,
    PLAIN: 1.6,
    "I-ResNeXt": 4.0,
    "masked": 0.8,
}


@pytest.fixture
def tiny(monkeypatch):
    """Images that are quick, and the cache of compiled programs as it was."""
    data = dataclasses.replace(anytime_step.DATA, image_shape=(4, 4, 3))
    monkeypatch.setattr(anytime_step, "DATA", data)
    wide = dataclasses.replace(WIDE.backbone, branches=8)
    monkeypatch.setattr(anytime_step, "WIDE", wide)
    monkeypatch.setattr(anytime_step, "TRIANGULAR", TRIANGULAR)
    directory = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", directory)


@pytest.fixture
def made_up_times(monkeypatch):
    """Seconds by name; nothing is compiled."""
    ready = Ready(lambda: None, compile_seconds=3.0, memory=Memory(temp=2**20, held=2**10))
    monkeypatch.setattr(steps, "ready", lambda experiment: ready)
    monkeypatch.setattr(
        steps,
        "interleaved",
        lambda runs, rounds: {name: np.full(rounds, SECONDS[name]) for name in runs},
    )


@pytest.mark.parametrize("form", ["sliced", "host"])
def test_a_step_that_is_ready_compiles_nothing_more(form, tiny, caplog):
    step = steps.ready(experiment(WIDE, 2, form))

    with caplog.at_level("DEBUG", logger="jax"):
        step.run()
        step.run()

    assert step.memory.temp > 0
    assert (step.memory.held > 0) == (form == "host")
    assert not [record for record in caplog.records if "Compiling" in record.message]


def test_the_networks_by_themselves_are_the_sub_networks(tiny):
    case = iresnext(WIDE, ("sliced", "host"), 2)

    alone = [CostModel(own.network, (4, 4, 3)).cost(Subnet("full")) for own in case.runs[APART]]
    nested = [CostModel(WIDE, (4, 4, 3)).cost(subnet) for subnet in WIDE.subnets]
    assert [cost.full for cost in alone] == [cost.full for cost in nested]
    assert [own.form for name in ("sliced", "host") for own in case.runs[name]] == [
        "sliced",
        "host",
    ]


def test_a_pass_for_one_answer_learns_at_its_last_exit_alone(tiny):
    network = LastExit(TRIANGULAR)
    images = np.random.default_rng(0).normal(size=(4, 4, 4, 3)).astype(np.float32)
    targets = np.eye(4, 10, dtype=np.float32)
    batch = {"image": images, "targets": (targets,), "mask": np.ones(4, np.float32)}
    (draw,) = network.draws(np.random.default_rng(0), None)

    @jax.jit
    def gradients(key):
        variables = network.init(key, images)

        def loss(params):
            own = {**variables, "params": params}
            return network.loss(own, batch, draw, key, "anytime", "batch")[0]

        return jax.grad(loss)(variables["params"])

    found = gradients(jax.random.key(0))

    assert not found["exit1"]["classifier"]["kernel"].any()
    assert found["exit2"]["classifier"]["kernel"].any()
    assert found["stage1"]["blocks"]["conv1"]["group1"]["kernel"].any()


def test_the_plain_network_has_the_widths_and_the_depth_of_the_triangular_one():
    net = Architecture()

    plain = anytime_step.plain_of(net)

    same = ("stage_sizes", "width", "branches", "branch_width")
    assert [getattr(plain, name) for name in same] == [getattr(net, name) for name in same]


def test_the_bars_stand_at_what_is_the_default():
    cases = anytime_step.cases(anytime_step.FORMS, 2)

    bars = {
        (case.name, ratio.name, ratio.baseline): ratio.most
        for case in cases
        for ratio in case.ratios
        if ratio.most
    }
    assert bars == {
        ("I-ResNeXt, K = 4", "scan_switch", APART): 1.05,
        ("I-ResNeXt, K = 8", "scan_switch", APART): 1.05,
        ("IS-ResNeXt, K = 6", "masked", PLAIN): 1.05,
        ("IS-ResNeXt, K = 6", "masked", APART): 0.30,
    }


def test_networks_that_take_turns_add_up_and_the_largest_counts(made_up_times):
    (apart, switched) = steps.measure(iresnext(WIDE, ("scan_switch",), 2), 3)

    assert (apart["ratio"], switched["ratio"], switched["kept"]) == (1.0, 0.5, True)
    assert (apart["compile_seconds"], switched["compile_seconds"]) == (6.0, 3.0)
    assert (apart["temp_bytes"], apart["held_bytes"]) == (2**20, 2**10)
    assert switched["seconds"] == 1.0


def test_the_command_writes_the_rows_that_it_prints(tiny, made_up_times, tmp_path, capsys):
    path = tmp_path / "rows.json"

    anytime_step.main([f"--json={path}", "--rounds=3", "--forms=host", "--batch_size=2"])

    rows = read_json(path, "anytime_steps")
    triangular = [PLAIN, APART, "I-ResNeXt", *["masked"] * 3, *["sliced"] * 3]
    assert [row["form"] for row in rows] == [APART, "host"] * 2 + triangular
    assert [row["ratio"] for row in rows if row["case"] == "I-ResNeXt, K = 8"] == [1.0, 1.1]
    assert {row["batch"] for row in rows} == {2}
    assert "IS-ResNeXt, K = 2" in capsys.readouterr().out
