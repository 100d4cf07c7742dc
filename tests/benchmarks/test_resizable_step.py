"""What is timed is what training runs, and what it compiles stays bounded; times are made up."""

import dataclasses

import jax
import numpy as np
import pytest
import warm

from benchmarks import resizable_step, steps
from benchmarks.resizable_step import (
    APART,
    BACKBONES,
    apart,
    bound_of,
    case,
    compilations,
    experiment,
    network_of,
)
from benchmarks.steps import Memory, Ready
from jax_elastic.backbones.resnet import ResNet
from jax_elastic.elastic.resizable.resizable import Resizable
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.rows import read_json
from jax_elastic.subnet import Subnet

NETWORK = Resizable(ResNet((1, 1), width=2), (0.5, 1.0), side=8)
SECONDS = {APART: 2.0, "host": 2.2, "staged": 1.0}


@pytest.fixture
def tiny(monkeypatch):
    """Images that are quick, and the cache of compiled programs as it was."""
    data = dataclasses.replace(resizable_step.DATA, image_shape=(8, 8, 3))
    monkeypatch.setattr(resizable_step, "DATA", data)
    monkeypatch.setattr(resizable_step, "network_of", lambda name: NETWORK)
    directory = jax.config.jax_compilation_cache_dir
    yield
    jax.config.update("jax_compilation_cache_dir", directory)


@pytest.fixture
def made_up_times(monkeypatch):
    """Seconds by name; nothing is compiled."""
    ready = Ready(lambda: None, compile_seconds=3.0, memory=Memory(2**20, 2**10))
    monkeypatch.setattr(steps, "ready", lambda experiment: ready)
    monkeypatch.setattr(
        steps,
        "interleaved",
        lambda runs, rounds: {name: np.full(rounds, SECONDS[name]) for name in runs},
    )


def macs_of(network, points):
    model = CostModel(network, (8, 8, 3))
    return sum(model.cost(point).full for point in points)


@pytest.mark.parametrize("name", BACKBONES)
def test_what_can_be_named_tells_ten_classes_apart_on_small_images(name):
    network = network_of(name)

    assert network.classes == (10,)
    assert network.stretches(network.subnets.fullest)[0][0] == 32


def test_the_networks_by_themselves_are_the_sub_networks_of_a_fair_step():
    networks = apart(NETWORK)
    points = [Subnet("resolution", own.target) for own in networks]

    alone = [macs_of(own, [point]) for own, point in zip(networks, points, strict=True)]

    assert alone == [macs_of(NETWORK, [point]) for point in points]
    for stage in range(2):
        assert sorted(point.value[stage] for point in points) == list(NETWORK.scales)
    assert {experiment(own, 2).phases[0].objective for own in networks} == {"target"}
    assert experiment(NETWORK, 2).phases[0].objective == "fair"


def test_all_fair_steps_have_the_same_macs():
    (first, second), (third, fourth) = (
        [Subnet("resolution", (a, b)) for a, b in pairs]
        for pairs in (((0.5, 0.5), (1.0, 1.0)), ((0.5, 1.0), (1.0, 0.5)))
    )
    assert macs_of(NETWORK, (first, second)) == macs_of(NETWORK, (third, fourth))


def test_the_bar_stands_at_the_default_form_and_all_forms_are_there():
    found = case("tiny", dataclasses.replace(NETWORK, scales=(0.25, 0.5, 0.75, 1.0, 2.0)), (), 2)
    bars = {ratio.name: ratio.most for ratio in found.ratios}
    assert bars.pop("scan_switch") == 1.05
    assert bars.pop(APART) is None
    assert set(bars) == set(NETWORK.forms) - {"scan_switch"}
    assert not any(bars.values())


def test_a_form_that_the_network_does_not_have_is_refused():
    with pytest.raises(UsageError, match="form 'twice' is none of tiny; there are: host, "):
        case("tiny", NETWORK, ("twice",), 2)


def test_the_segments_of_a_step_leave_what_their_gradients_need(tiny, caplog):
    step = steps.ready(experiment(NETWORK, 2, "staged"))

    with caplog.at_level("DEBUG", logger="jax"):
        step.run()

    # The gradients and the sum of those before would be two sets of parameters.
    parameters = warm.shapes_of(NETWORK)["params"]
    assert step.memory.held > 2 * 4 * sum(leaf.size for leaf in jax.tree.leaves(parameters))
    assert step.memory.temp > 0
    assert not [record for record in caplog.records if "Compiling" in record.message]


# Of two scales and two stages: the resize of the image and the stem; then a stretch for each stage
# and scale, and a resize to each scale, of the second stage from each of the first.
STAGED = 2 + 2 * 2 + 2 + 2 * 2


def test_what_is_compiled_is_bounded_however_many_iterations_there_are(tiny):
    found = compilations(NETWORK, 12, "staged")
    # So soon all operating points came up that nothing is left that could be compiled.
    assert found["last"] < 6
    # The image's resize has no gradient.
    assert (found["forward"], found["backward"]) == (STAGED, STAGED - 1)
    # Pieces, but more of them than the four points.
    assert (found["form"], found["bound"], found["kept"]) == ("staged", 4, False)
    assert found["all"] > 2 * STAGED


@pytest.mark.slow
@pytest.mark.parametrize("stages,points", [(3, 27), (4, 81)])
def test_two_hundred_iterations_compile_what_segments_and_pairs_of_scales_are(tiny, stages, points):
    network = Resizable(ResNet((1,) * stages, width=2), (0.5, 0.75, 1.0), side=32)
    programs = 2 + stages * 3 + 3 + (stages - 1) * 3 * 3

    found = compilations(network, 200, "staged")

    assert (found["forward"], found["backward"]) == (programs, programs - 1)
    assert programs <= len(network.segments(network.subnets.fullest)) * 3 * 3
    assert (found["bound"], found["kept"]) == (points, programs <= points)
    assert found["last"] < 40


@pytest.mark.parametrize(
    "network,form,most",
    [
        (NETWORK, "host", 4),
        (NETWORK, "scan_switch", 1),
        (NETWORK, "sliced", None),
        (NETWORK, "staged", 4),
        (Resizable(ResNet((3, 4, 6, 3))), "staged", 10 * 6**2),
    ],
)
def test_programs_are_bounded_by_segments_and_pairs_of_scales_or_points_or_one_or_not_at_all(
    network, form, most
):
    assert bound_of(network, form) == most


def test_the_command_writes_the_rows_that_it_prints(tiny, made_up_times, tmp_path, capsys):
    path = tmp_path / "rows.json"

    resizable_step.main(
        [f"--json={path}", "--rounds=3", "--forms=host", "--iterations=0", "--batch_size=2"]
    )

    rows = read_json(path, "resizable_steps")
    assert [(row["form"], row["ratio"]) for row in rows] == [(APART, 1.0), ("host", 1.1)]
    assert {(row["case"], row["batch"]) for row in rows} == {("small", 2)}
    assert "held MiB" in capsys.readouterr().out
