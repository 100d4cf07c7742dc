"""Several processes that train one network, as a user starts them."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from tiny_run import DIGITS

import jax_elastic
from jax_elastic.cli import processes, run
from jax_elastic.cli.flags import parse
from jax_elastic.errors import UsageError
from jax_elastic.training.metrics import MetricsFile

REPOSITORY = Path(__file__).resolve().parents[2]
# 12 steps; float64, so that the order of sums over devices does not matter.
FLAGS = (
    f"--config={DIGITS}:base",
    "--config.network.backbone.stage_sizes=(1,)",
    "--config.network.backbone.width=4",
    "--config.network.dtype=float64",
    "--config.phases.base.batch_size=32",
    "--config.phases.base.epochs=0.3",
    "--config.runtime.save_every=5",
    "--config.runtime.log_every=1",
    "--config.runtime.validate_every=6",
    "--config.runtime.keep=9",
    "--config.ema_decay=0.5",
)
STEPS = 12


def start(workdir, devices, *flags):
    """A process of some virtual devices that trains in a workdir."""
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_ENABLE_X64": "1",
    }
    command = [sys.executable, "train.py", *FLAGS, f"--workdir={workdir}", *flags]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*started):
    """What each printed; all must succeed."""
    try:
        outputs = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    codes = [process.returncode for process in started]
    assert not any(codes), outputs
    return [out for out, _ in outputs]


def start_together(workdir, *flags):
    """Two processes of two devices each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"--coordinator=127.0.0.1:{free.getsockname()[1]}"
    both = (*flags, coordinator, "--num_processes=2")
    return [start(workdir, 2, *both, f"--process_id={i}") for i in range(2)]


def train_together(workdir):
    """Trains in two processes of two devices each; what they printed."""
    return finish(*start_together(workdir))


def loaded(workdir):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax_elastic.load(workdir)[1])


def assert_equal_networks(one, other):
    # Law 1's tolerance for float64.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-10), one, other)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """The workdir of a run in one process, on one device."""
    workdir = tmp_path_factory.mktemp("single") / "run"
    finish(start(workdir, 1))
    return workdir


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The workdir of the same run in two processes, and what they printed."""
    workdir = tmp_path_factory.mktemp("together") / "run"
    return workdir, train_together(workdir)


@pytest.mark.slow
def test_two_processes_of_two_devices_train_what_one_process_does(single, together):
    workdir, (first, second) = together
    assert_equal_networks(loaded(workdir), loaded(single))
    assert "4 x cpu of 2 processes" in first
    # Gloo tells of its connections on standard output.
    assert all(line.startswith("[Gloo]") for line in second.splitlines() if line)


@pytest.mark.slow
def test_one_of_two_processes_writes_the_metrics(single, together):
    rows, expected = (
        MetricsFile(workdir / "metrics.jsonl").rows() for workdir in (together[0], single)
    )
    assert [(row["kind"], row["step"]) for row in rows] == [
        (row["kind"], row["step"]) for row in expected
    ]
    losses = [[row["loss"] for row in some if row["kind"] == "train"] for some in (rows, expected)]
    np.testing.assert_allclose(*losses, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_what_two_processes_saved_is_gone_on_with_by_one_or_two(count, single, together, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(together[0], workdir)
    shutil.rmtree(workdir / "checkpoints" / str(STEPS))
    outputs = train_together(workdir) if count == 2 else finish(start(workdir, 1))
    assert f"resuming at step 10 of {STEPS}" in outputs[0]
    assert_equal_networks(loaded(workdir), loaded(single))


@pytest.mark.slow
def test_both_processes_stop_at_one_step_when_one_of_them_is_asked_to(tmp_path):
    first, second = start_together(tmp_path / "run", "--config.phases.base.epochs=500")
    try:
        assert any("step 1/" in line for line in first.stdout), "it ended by itself"
        second.send_signal(signal.SIGTERM)
        told = [process.communicate(timeout=120)[1] for process in (first, second)]
    finally:
        first.kill()
        second.kill()
    # What a shell says of a process that SIGTERM ended.
    assert (first.returncode, second.returncode) == (143, 143)
    steps = {re.search(r"stopped at step (\d+)", text)[1] for text in told}
    (step,) = steps
    assert (tmp_path / "run" / "checkpoints" / step).is_dir()


@pytest.mark.slow
def test_processes_that_do_not_see_the_same_workdir_are_refused(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"--coordinator=127.0.0.1:{free.getsockname()[1]}"
    both = (coordinator, "--num_processes=2")
    two = [start(tmp_path / str(i), 1, *both, f"--process_id={i}") for i in range(2)]
    told = [process.communicate(timeout=120)[1] for process in two]
    assert [process.returncode for process in two] == [2, 2]
    assert all("is not the same directory for all processes" in text for text in told)


@pytest.fixture
def joined(monkeypatch):
    """What JAX is asked to join, instead of joining it."""
    asked = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *values: asked.append(values))
    return asked


def join_with(*flags):
    processes.join(parse(list(flags), processes.define, ""))


def test_the_environment_may_say_what_flags_say(monkeypatch, joined):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.0.0.2:8476")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "4")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    join_with()
    join_with("--num_processes=8")
    assert joined == [("10.0.0.2:8476", 4, 0), ("10.0.0.2:8476", 8, 0)]


def test_a_cluster_may_say_all_of_it(joined):
    join_with("--distributed")
    assert joined == [(None, None, None)]


def test_without_any_of_it_a_process_trains_alone(joined):
    join_with()
    assert joined == []


def test_a_number_of_the_environment_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_PROCESS_ID", "first")
    with pytest.raises(UsageError, match="JAX_PROCESS_ID=first of the environment is no number"):
        join_with()


def test_a_coordinator_that_nobody_listens_at_is_an_error_of_one_line(monkeypatch, joined):
    monkeypatch.setattr(processes, "_PATIENCE", 0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"nobody answers at --coordinator={address}"):
            join_with(f"--coordinator={address}", "--num_processes=2", "--process_id=1")
    assert joined == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--process_id=0"], "several processes need --coordinator=HOST:PORT"),
        (
            ["--coordinator=here", "--num_processes=2", "--process_id=0"],
            "--coordinator=here is no HOST:PORT",
        ),
        (
            ["--coordinator=here:1", "--num_processes=2", "--process_id=2"],
            "--process_id=2 is too large; 0 to 1",
        ),
    ],
)
def test_flags_that_do_not_fit_are_refused(flags, message, tmp_path, capsys):
    assert run(["train", f"--workdir={tmp_path}", *flags]) == 2
    assert message in capsys.readouterr().err
