"""What the benchmark of choosing runs and reports; times themselves are not asserted."""

import json

import numpy as np
import pytest
from families import SMALL
from warm import random_images

from benchmarks import adaptive, fresh
from benchmarks.adaptive import MIXES, STATIC, Subject, Work, main, rows
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.cost import CostModel

NETWORK = SMALL["adapt"]
SHAPE = (8, 8, 3)


@pytest.mark.parametrize(
    "mix,counts",
    [("all the cheapest", [7, 0, 0]), ("each as often", [3, 2, 2]), ("all the dearest", [0, 0, 7])],
)
def test_a_mix_is_chosen_by_so_many_images(mix, counts):
    assert np.bincount(MIXES[mix](3, 7), minlength=3).tolist() == counts


@pytest.mark.slow
def test_what_is_counted_is_what_the_images_chose():
    images = random_images(6)
    subject = Subject(NETWORK, fresh.variables(NETWORK, SHAPE), images, 6)
    works = subject.works("masked", list(MIXES))
    costs = CostModel(NETWORK, SHAPE)
    cost = costs.cost(NETWORK.subnets.fullest)
    always = cost.fixed + cost.gates
    for work in works.values():
        work.run()

    assert list(works) == [f"masked, {mix}" for mix in MIXES]
    assert [work.choices for work in works.values()] == [[1, 0], [0.5, 0.5], [0, 1]]
    assert [work.macs for work in works.values()] == [
        always,
        always + cost.blocks[0] / 2,
        always + cost.blocks[0],
    ]
    # Whatever is chosen, all is computed.
    assert {work.executed for work in works.values()} == {always + cost.blocks[0]}
    assert subject.fullest().macs == costs.cost(NETWORK.base.subnets.fullest).full


def test_a_row_compares_with_the_fullest_network():
    dense = Work(lambda: None, 10.0, 10.0)
    first, second = rows(dense, {"masked, mix": Work(lambda: None, 5.0, 20.0, [0.5, 0.5])}, 3)

    assert (first["form"], first["ratio"], first["mac_ratio"]) == (STATIC, 1, 1)
    assert (second["form"], second["baseline"]) == ("masked, mix", STATIC)
    assert (second["mac_ratio"], second["executed_mac_ratio"]) == (0.5, 2)
    assert second["choices"] == [0.5, 0.5] and second["rounds"] == 3


@pytest.mark.slow
def test_the_command_writes_a_row_for_each_engine_and_mix(monkeypatch, tmp_path):
    monkeypatch.setattr(adaptive, "DIGITS", NETWORK)
    monkeypatch.setattr(adaptive, "BASE", NETWORK.base)
    flags = ["--batch_size=4", "--engines=masked,compacted", "--rounds=3", "--platform=cpu"]
    main([*flags, f"--json={tmp_path / 'rows.json'}"])
    found = json.loads((tmp_path / "rows.json").read_text())

    assert found["kind"] == "adaptive"
    forms = [f"{engine}, {mix}" for engine in ("masked", "compacted") for mix in MIXES]
    assert [row["form"] for row in found["rows"] if row["form"] != STATIC] == forms
    assert {"commit", "device", "seconds", "load"} <= set(found["rows"][0])


def test_an_unknown_engine_is_refused():
    with pytest.raises(UsageError, match="--engines has an unknown 'static'"):
        main(["--engines=static", "--platform=cpu"])
