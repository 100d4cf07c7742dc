"""Kills: programs that know nothing of training show what is counted and what is found out."""

import sys

import pytest

from benchmarks import kills
from benchmarks.kills import Found, Kill, kill_runs
from jax_elastic.evaluation.rows import read_json

# Its state is a file, so it goes on where it was killed.
STEADY = """
import sys, time
from pathlib import Path
workdir = Path(sys.argv[1])
workdir.mkdir(exist_ok=True)
done = workdir / "done"
for step in range(len(done.read_bytes()) if done.exists() else 0, 8):
    print(f"step {step}/8", flush=True)
    time.sleep(0.02)
    with done.open("ab") as file:
        file.write(b".")
print("final", done.read_text())
"""
# What it tells at its end, no other process tells.
FORGETFUL = STEADY.replace("import sys", "import os, sys").replace(
    '"final"', '"final", os.getpid()'
)
# Every step leaves a directory.
MESSY = STEADY.replace(
    "    print(",
    """    (workdir / "checkpoints" / f"{step}SUFFIX").mkdir(parents=True, exist_ok=True)
    print(""",
)


def run(program, root, count=4):
    return kill_runs(
        (sys.executable, "-c", program), count, 0, root, root / "cache", early=0.02, late=2.0
    )


def test_a_program_that_keeps_its_state_ends_as_one_that_was_left_alone(tmp_path):
    found = run(STEADY, tmp_path)
    assert len(found.kills) == 4
    assert found.whole == "." * 8
    assert set(found.ends) == {found.whole}
    assert found.identical == len(found.ends) >= 1
    assert any(kill.step is not None for kill in found.kills)


def test_a_program_that_forgets_something_is_found_out(tmp_path):
    found = run(FORGETFUL, tmp_path)
    assert found.identical == 0 < len(found.ends)


@pytest.mark.parametrize(
    ("suffix", "save", "seal"), [(".orbax-checkpoint-tmp", True, False), ("", False, True)]
)
def test_what_a_kill_leaves_is_counted(tmp_path, suffix, save, seal):
    found = run(MESSY.replace("SUFFIX", suffix), tmp_path, count=1)
    assert found.kills == (Kill(found.kills[0].step, save, seal),)


def test_a_program_that_fails_by_itself_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match=r"failed by itself:\n(?s:.*)ZeroDivisionError"):
        run("1 / 0", tmp_path)


@pytest.mark.parametrize(("end", "code"), [("same", 0), ("other", 1)])
def test_the_command_tells_a_difference_by_its_exit_code(tmp_path, monkeypatch, end, code):
    one = (Kill(3, save=True, seal=False), Kill(None, save=False, seal=False))
    monkeypatch.setattr(
        kills, "kill_runs", lambda *args, **options: Found(one, "same", ("same", end))
    )
    path = tmp_path / "kills.json"

    with pytest.raises(SystemExit) if code else monkeypatch.context():
        kills.main(["--kills=2", f"--json={path}"])

    (row,) = read_json(path, "kills")
    assert row["kills"] == row["runs"] == 2
    assert row["identical"] == 2 - code
    assert (row["before_a_step"], row["amid_a_save"], row["before_a_seal"]) == (1, 1, 0)
