"""The runner trains what is missing, once, and goes on where it was stopped."""

import json
import shutil

import numpy as np
import pytest

from benchmarks import reproduce
from benchmarks.arm import Arm
from benchmarks.arms import Runner
from benchmarks.claims import Claim
from benchmarks.command import run
from benchmarks.urnet import Experiment
from jax_elastic.errors import UsageError
from jax_elastic.training.stop import Stopped

CONFIG = """
from ml_collections import ConfigDict


def get_config(variant):
    backbone = {"stage_sizes": (1, 1), "width": 4, "classes": 10}
    base = {"name": "base", "objective": "base", "epochs": 0.4, "learning_rate": 0.01}
    joint = {"name": "joint", "objective": "gated", "epochs": 0.4, "learning_rate": 0.01}
    families = {"plain": "plain", "start": "random_drop", "sg": "urnet", "ba": "urnet_soft"}
    config = ConfigDict()
    config.schema = 1
    config.data = {"name": "digits"}
    config.steps_per_dispatch = 2
    config.network = {"family": families[variant], "backbone": backbone}
    if variant in ("sg", "ba"):
        config.network.p = 1.0
        config.phases = ({**base, "pretrain": True}, joint)
    else:
        config.phases = ({**base, "pretrain": True},)
    return config
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a config; the runs of the whole module lie there, too."""
    folder = tmp_path_factory.mktemp("reproduce")
    (folder / "tiny.py").write_text(CONFIG)
    return folder


def runner(place, lines, stop=lambda: False):
    return Runner(place / "runs", stop, lines.append)


def test_an_arm_is_trained_and_evaluated_once_and_then_read(place):
    arm = Arm(f"{place}/tiny.py:plain")
    first, again = [], []

    found = runner(place, first).find(arm, seeds=2)
    late = runner(place, again)
    read = late.find(arm, seeds=2)

    assert found.at("top1").shape == (2, 359)
    # Two trainings and two evaluations, each with what it took and where.
    assert len(late.seconds) == len(late.facts) == 4
    assert all(seconds > 0 for seconds in late.seconds.values())
    assert np.array_equal(found.at("top1"), read.at("top1"))
    assert sum("done: step" in line for line in first) == 2
    assert again == []


@pytest.mark.slow
def test_an_arm_starts_from_the_run_of_its_own_seed_and_shares_a_training(place):
    lines = []
    config = f"{place}/tiny.py"
    sg = Arm(f"{config}:sg", f"{config}:start", budgets=(0.5,))
    ba = Arm(f"{config}:ba", f"{config}:start", trained_as=f"{config}:sg", budgets=(0.5,))

    soft, hard = (runner(place, lines).find(arm, seeds=2) for arm in (ba, sg))

    # Two starts and two trainings, though two arms.
    assert sum("done: step" in line for line in lines) == 4
    assert sorted(path.name for path in (place / "runs").glob("tiny-s*")) == [
        *("tiny-sg-seed0", "tiny-sg-seed1", "tiny-start-seed0", "tiny-start-seed1"),
    ]
    config_of_seed_1 = json.loads((place / "runs/tiny-sg-seed1/config.json").read_text())
    assert config_of_seed_1["init_from"].endswith("tiny-start-seed1")
    assert (soft.at("usage", 0.5) == 1).all()
    assert (soft.at("macs", 0.5) >= hard.at("macs", 0.5)).all()


@pytest.mark.slow  # on the runs of the test above
def test_a_run_whose_base_was_trained_anew_is_refused(place):
    config = f"{place}/tiny.py"
    arm = Arm(f"{config}:sg", f"{config}:start", budgets=(0.5,))
    runner(place, []).find(arm, seeds=2)
    path = place / "runs/tiny-start-seed1/done.json"
    done = path.read_text()
    path.write_text(json.dumps({**json.loads(done), "hash": "another"}))

    with pytest.raises(UsageError, match=r"delete .*tiny-sg-seed1"):
        runner(place, []).find(arm, seeds=2)
    path.write_text(done)


def test_a_run_that_was_stopped_goes_on(place):
    arm = Arm(f"{place}/tiny.py:plain")
    shutil.rmtree(place / "runs/tiny-plain-seed0", ignore_errors=True)
    shutil.rmtree(place / "runs/tiny-plain-seed1", ignore_errors=True)
    lines = []

    with pytest.raises(Stopped):
        runner(place, lines, stop=lambda: True).find(arm, seeds=2)
    runner(place, lines).find(arm, seeds=2)

    assert any(line.startswith("resuming at step 2 ") for line in lines)
    assert sum("done: step" in line for line in lines) == 2


def test_the_command_writes_rows_that_say_how_they_came_about(place, monkeypatch, capsys):
    config = f"{place}/tiny.py"

    def tiny(scale):
        arms = {"plain": Arm(f"{config}:plain")}
        return Experiment(
            f"a {scale} one",
            arms,
            lambda found: [Claim("top-1", "share", found["plain"].at("top1"), paper=0.9)],
        )

    monkeypatch.setitem(reproduce.EXPERIMENTS, "tiny", tiny)
    reproduce.main(
        ["tiny", "--seeds=2", f"--root={place}/root", f"--results={place}", "--compilation_cache="]
    )

    document = json.loads((place / "tiny-small.json").read_text())
    assert (document["schema"], document["kind"]) == (1, "results")
    (row,) = document["rows"]
    assert row["command"] == "python -m benchmarks.reproduce tiny --scale=small --seeds=2"
    assert {"experiment", "scale", "commit", "device", "hours", "detectable"} <= set(row)
    assert row["low"] <= row["ours"] <= row["high"]
    assert "measured" in capsys.readouterr().out


def test_an_unknown_experiment_is_refused_with_the_names_of_all():
    with pytest.raises(UsageError, match="urnet_baselines"):
        reproduce.main(["nothing", "--seeds", "3"])


@pytest.mark.parametrize(
    "error,code",
    [(None, 0), (UsageError("wrong"), 2), (Stopped(3), 75), (KeyboardInterrupt(), 130)],
)
def test_a_command_ends_with_a_code_that_tells_how(error, code):
    def main(argv):
        if error is not None:
            raise error

    assert run(main, []) == code
