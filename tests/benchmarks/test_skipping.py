"""What the benchmark of skipping runs and reports; nothing is timed here."""

import json

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import gate_patterns
from benchmarks.gate_patterns import PATTERNS, PLANS, Gated, independent, nested, shared
from benchmarks.skipping import ENGINES, bar, main, quicker, rows
from benchmarks.skipping_subject import DENSE, OWN, PLAN, TRAINED, Call, Subject, Work
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.points import all_blocks
from jax_elastic.elastic.sgad.sgad import SGAD
from jax_elastic.elastic.urnet.random_drop import RandomDrop
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.subnet import FULL

KEEPS = st.floats(0, 1)
# All blocks are one stack, so each engine compiles one of them.
STACK = ResNet((5,), width=4, classes=5)


@given(keep=KEEPS, size=st.integers(1, 9), blocks=st.integers(1, 9), seed=st.integers(0, 9))
def test_independent_images_open_as_many_blocks_each(keep, size, blocks, seed):
    gates = independent(np.random.default_rng(seed), size, blocks, keep)
    assert gates.shape == (size, blocks)
    assert set(gates.sum(1)) == {round(keep * blocks)}


@given(keep=KEEPS, size=st.integers(1, 9), blocks=st.integers(1, 9), seed=st.integers(0, 9))
def test_nested_images_open_all_that_easier_ones_open(keep, size, blocks, seed):
    gates = nested(np.random.default_rng(seed), size, blocks, keep)
    ordered = gates[np.argsort(gates.sum(1))]
    assert (ordered[:-1] <= ordered[1:]).all()


@given(keep=KEEPS, blocks=st.integers(1, 9), seed=st.integers(0, 9))
def test_shared_images_have_a_few_plans_of_equal_size_among_them(keep, blocks, seed):
    gates = shared(np.random.default_rng(seed), 32, blocks, keep)
    assert len(np.unique(gates, axis=0)) <= PLANS
    assert set(gates.sum(1)) == {round(keep * blocks)}


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("keep", [0.25, 0.5, 0.75, 1.0])
def test_patterns_keep_the_share_of_blocks_that_was_asked_for(pattern, keep):
    gates = PATTERNS[pattern](np.random.default_rng(0), 256, 54, keep)
    assert gates.mean() == pytest.approx(keep, abs=0.02)


def shrink(monkeypatch, network):
    """Puts a small network in the place of ResNet-110."""
    monkeypatch.setitem(gate_patterns.NETWORKS, "resnet110", Gated(network, (8, 8, 3)))


def test_every_engine_is_run_and_its_work_counted(monkeypatch):
    shrink(monkeypatch, URNet(STACK))
    subject = Subject("resnet110")

    groups = [subject.dense(4), *subject.groups(ENGINES, 4, ["independent"], [0.4])]
    by_name = {call.engine: work for group in groups for call, work in group.items()}
    for work in by_name.values():
        work.run()

    assert list(by_name) == [*DENSE, *ENGINES]
    assert subject.plan(4) == {}  # its blocks ask gates of their own
    dense = by_name[DENSE[0]].macs
    assert by_name["masked"].executed >= dense > by_name["masked"].macs
    # One image at a time, nothing is computed that is not open.
    assert by_name["sequential"].executed == by_name["sequential"].macs == by_name["masked"].macs
    assert by_name["compacted"].executed >= by_name["compacted"].macs
    assert by_name["masked"].keep == 0.4
    assert by_name["capacity"].keep == 0.5  # two of four images


def test_a_plan_has_a_row_of_its_own_and_is_in_those_that_follow_it(monkeypatch, tmp_path):
    network = SGAD(STACK, guideline="none")
    shrink(monkeypatch, network)
    main(["--batch_sizes=4", "--keeps=1", "--engines=masked", "--rounds=3", "--patterns=shared",
          f"--json={tmp_path / 'rows.json'}"])  # fmt: skip

    *dense, plan, masked = json.loads((tmp_path / "rows.json").read_text())["rows"]
    costs = CostModel(network, (8, 8, 3))
    whole, gates = costs.cost(all_blocks(network)).full, costs.cost(FULL).gates
    assert [row["engine"] for row in (*dense, plan, masked)] == [*DENSE, PLAN, "masked"]
    assert plan["mac_ratio"] == gates / whole > 0
    assert plan["saving"] is None
    assert masked["mac_ratio"] == pytest.approx(1 + plan["mac_ratio"])


@pytest.mark.slow
def test_trained_gates_decide_for_themselves(monkeypatch):
    (group,) = Subject(TRAINED).groups(["bucketed"], 8, [OWN], [0.3, 0.9])
    low, high = (work.keep for work in group.values())
    assert 0 < low < high < 1


def test_ratios_are_to_the_quicker_dense_form_round_by_round():
    dense = [Call(name, 256) for name in DENSE]
    skips = Call("compacted", 256, "nested", 0.5)
    whole, half = Work(lambda: None, 2, 2, 1.0), Work(lambda: None, 1, 1.5, 0.5)
    times = (np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 4.0]), np.array([0.5, 1.0, 3.0]))
    measured = {dense[0]: (whole, times[0]), dense[1]: (whole, times[1]), skips: (half, times[2])}

    baseline = quicker(measured | {skips: (half, times[0])})
    found = rows("resnet110", measured, baseline)

    assert baseline == dense[1]
    assert [row["time_ratio"] for row in found] == [2, 1, 0.5]
    assert {row["baseline"] for row in found} == {"dense, forward"}
    assert (found[2]["mac_ratio"], found[2]["executed_mac_ratio"]) == (0.5, 0.75)
    assert found[2]["saving"] == 1
    assert (found[2]["bar"], found[2]["kept"]) == (0.54, True)


def test_a_single_image_has_one_pattern_and_no_capacity(monkeypatch):
    shrink(monkeypatch, RandomDrop(STACK))
    engines = ["masked", "sequential", "capacity"]
    groups = list(Subject("resnet110").groups(engines, 1, list(PATTERNS), [0.2, 1.0]))
    assert [(call.engine, call.keep) for group in groups for call in group] == [
        ("masked", 0.2),
        ("sequential", 0.2),
        ("sequential", 1.0),
    ]


@pytest.mark.parametrize(
    ("network", "call", "most"),
    [
        ("resnet110", Call("compacted", 256, "nested", 0.25), 0.29),
        ("resnet110", Call("compacted", 256, "nested", 1), 1.08),
        ("resnet110", Call("compacted", 1, "nested", 0.5), 0.56),
        ("resnet110", Call("compacted", 64, "nested", 0.5), None),
        ("resnet110", Call("bucketed", 256, "nested", 0.5), None),
        ("urnet110", Call("compacted", 256, "nested", 0.5), 0.6),
        ("resnet101", Call("compacted", 128, "nested", 0.5), None),
    ],
)
def test_the_promises_on_a_cpu(network, call, most):
    assert bar(network, call, 0.5) == (most and pytest.approx(most))


def test_on_an_accelerator_the_heavy_network_is_the_promise(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert bar("resnet101", Call("compacted", 128, "nested", 0.6), 0.6) == pytest.approx(0.72)
    assert bar("resnet110", Call("compacted", 256, "nested", 0.5), 0.5) is None


def test_the_command_writes_a_row_per_call(monkeypatch, tmp_path, capsys):
    shrink(monkeypatch, RandomDrop(STACK))
    main(["--batch_sizes=1,4", "--keeps=0.4", "--engines=compacted", "--rounds=3",
          "--patterns=nested", f"--json={tmp_path / 'rows.json'}"])  # fmt: skip

    found = json.loads((tmp_path / "rows.json").read_text())
    assert found["kind"] == "skipping"
    keys = {"network", "engine", "batch_size", "keep", "time_ratio", "mac_ratio", "commit", "load"}
    assert all(keys <= set(row) for row in found["rows"])
    assert [row["batch_size"] for row in found["rows"]] == [1] * 3 + [4] * 3
    assert "compacted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--batch_sizes=8,x", "--batch_sizes=8,x is no list of numbers; positive whole numbers"),
        ("--keeps=2", r"--keeps=2 is no list of numbers; shares in \(0, 1\]"),
        ("--engines=fast", "--engines has an unknown 'fast'; of masked, compacted"),
    ],
)
def test_values_that_do_not_belong_are_refused(flag, message):
    with pytest.raises(UsageError, match=message):
        main([flag])
