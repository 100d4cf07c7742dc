"""The claim of `benchmarks/search.py`, on the table that it left: nothing is trained here."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.search import EVALUATIONS, NETWORK, SEEDS, TABLE, compare, main
from jax_elastic.evaluation.cost import CostModel
from jax_elastic.evaluation.rows import read_json
from jax_elastic.inference.query import choose, within
from jax_elastic.inference.table import read_table

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDED = read_table(REPOSITORY / TABLE)
ROWS = list(RECORDED.values())


def test_the_table_has_every_point_of_a_network_whose_sizes_all_differ():
    assert [subnet for subnet, _ in RECORDED] == list(NETWORK.subnets)
    assert len(ROWS) == 243
    sides = [[side for side, _ in NETWORK.stretches(subnet)] for subnet in NETWORK.subnets]
    assert len({tuple(of_point) for of_point in sides}) == 243


def test_macs_of_the_table_are_those_that_the_counter_tells_today():
    costs = CostModel(NETWORK, (8, 8, 1))
    assert [row["macs"] for row in ROWS] == [costs.cost(s).full for s in NETWORK.subnets]


def test_evolution_finds_at_least_what_chance_finds_at_equal_evaluations():
    assert SEEDS >= 20
    for row in compare(ROWS, EVALUATIONS, SEEDS):
        assert row["evolution"] >= row["chance"], row
        assert row["kept"]
        low, high = row["more_ci95"]
        assert low <= row["more"] <= high
        assert row["more"] == pytest.approx(row["evolution_mean"] - row["chance_mean"])


def test_the_recorded_comparison_is_that_of_the_recorded_table(tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    main(["--recorded", f"--json={tmp_path / 'rows.json'}"])
    told, recorded = (
        read_json(path, "search_benchmark")
        for path in (tmp_path / "rows.json", "docs/results/search.json")
    )
    # Other machines add up in another order.
    expected = [pytest.approx(numbers(row), rel=1e-9, abs=1e-12) for row in recorded]
    assert [numbers(row) for row in told] == expected


def numbers(row):
    """All but the facts that tell where a row comes from."""
    low, high = row["more_ci95"]
    told = {name: value for name, value in row.items() if isinstance(value, int | float)}
    return {**told, "low": low, "high": high}


@given(st.integers(0, 242), st.integers(0, 242), st.booleans())
def test_answers_are_those_of_trying_all_points(one, other, params):
    limits = {"macs": ROWS[one]["macs"], **({"params": ROWS[other]["params"]} if params else {})}
    fit = [row for row in ROWS if all(row[name] <= most for name, most in limits.items())]
    top = max(row["top1"] for row in fit)
    cheapest = min(row["macs"] for row in fit if row["top1"] == top)
    found = choose(ROWS, limits)
    assert (found["top1"], found["macs"]) == (top, cheapest)


@pytest.mark.parametrize("limits", [{"macs": 1.0}, {"params": 1.0}])
def test_nothing_is_within_limits_below_the_cheapest(limits):
    assert within(ROWS, limits) is None
