"""What is timed is every form of one convolution; times are made up here."""

import jax
import numpy as np
import pytest

from benchmarks import grouped_conv
from benchmarks.grouped_conv import Case, executed, forms, measure, runner
from jax_elastic.evaluation.rows import read_json

TINY = Case(3, 4, side=4, batch=2)
SECONDS = {"dense": 2.0, "split 8": 1.0, "native": 3.0}


@pytest.fixture
def made_up_times(monkeypatch):
    """Seconds by form, and thrice that in a scan."""

    def interleaved(runs, rounds):
        times = {"alone": 1.0, "in a scan": 3.0}
        return {key: np.full(rounds, SECONDS[key[1]] * times[key[0]]) for key in runs}

    monkeypatch.setattr(grouped_conv, "interleaved", interleaved)


@pytest.mark.parametrize("place", grouped_conv.PLACES)
def test_every_form_computes_the_same_value_and_gradients(place):
    found = {name: runner(TINY, form, place)() for name, form in forms(TINY, True).items()}

    assert list(found) == ["dense", "split 8", "native"]
    for name in ("split 8", "native"):
        for ours, theirs in zip(found[name], found["dense"], strict=True):
            # Sums of up to four convolutions in another order, relative to the largest.
            assert abs(ours - theirs).max() < 1e-5 * abs(theirs).max()


@pytest.mark.parametrize(
    "case,names",
    [
        (Case(8, 4, 32, 1), ["dense", "split 8", "split 16"]),
        (Case(18, 8, 16, 1), ["dense", "split 8", "split 16", "split 32", "split 64"]),
        (Case(18, 16, 8, 1), ["dense", "split 16", "split 32", "split 64"]),
        (Case(30, 32, 7, 1), ["dense", "split 32", "split 64"]),
    ],
    ids=str,
)
def test_a_split_is_timed_once_by_the_channels_that_it_has(case, names):
    assert list(forms(case)) == names
    share = [
        executed(case, form) / executed(case, forms(case)["dense"]) for form in forms(case).values()
    ]
    assert share[0] == 1 and share[1:] == sorted(share[1:]) and share[-1] < 1


def test_a_row_tells_time_and_macs_against_dense_in_the_same_place(made_up_times):
    rows = measure(TINY, forms(TINY, True), rounds=3)

    found = {(row["place"], row["form"]): (row["ratio"], row["macs"]) for row in rows}
    assert found == {
        (place, form): (SECONDS[form] / 2, pytest.approx(macs))
        for place in ("alone", "in a scan")
        for form, macs in (("dense", 1), ("split 8", (8 * 8 + 4 * 4) / 12**2), ("native", 1 / 3))
    }


def test_the_command_writes_the_rows_that_it_prints(made_up_times, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(grouped_conv, "CASES", (TINY,))
    path = tmp_path / "rows.json"

    grouped_conv.main([f"--json={path}", "--rounds=3", "--native", "--compilation_cache="])

    rows = read_json(path, "grouped_conv")
    assert [row["case"] for row in rows] == ["3 x 4, 4x4"] * 6
    assert {row["device"] for row in rows} == {rows[0]["device"]}
    assert str(jax.devices()[0].device_kind) in rows[0]["device"]
    assert "split 8" in capsys.readouterr().out
