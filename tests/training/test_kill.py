"""Law 6 against the real thing: a process that is killed outright."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

# Arguments: the step after which to wait for the kill (0: never), then the workdirs.
PROGRAM = """
import sys, time
from pathlib import Path

import jax

jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

from jax_elastic.backbones.resnet import ResNet
from jax_elastic.data.datasets import DataConfig, load
from jax_elastic.elastic.urnet.urnet import URNet
from jax_elastic.training.experiment import Experiment, Runtime
from jax_elastic.training.loop import train
from jax_elastic.training.phases import Phase

stop, *workdirs = sys.argv[1:]
data = DataConfig()
epochs = 6 * 16 / len(load(data, "train"))
base = Phase("base", epochs, "base", 0.1, batch_size=16)
joint = Phase("joint", epochs, "gated", 0.01, batch_size=16, optimizer="adam")
experiment = Experiment(
    network=URNet(ResNet((1,), width=4)),
    phases=(base, joint),
    data=data,
    runtime=Runtime(log_every=1, save_every=3),
)

def report(line):
    print(line, flush=True)
    if f"step {stop}/" in line:
        time.sleep(600)

for workdir in workdirs:
    train(experiment, Path(workdir), report=report)
"""


def start(stop, *workdirs):
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_NUM_CPU_DEVICES": "1",
    }
    command = [sys.executable, "-c", PROGRAM, str(stop), *map(str, workdirs)]
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    )


def kill_at(process, step, checkpoint):
    """Kills a process that waits after a step, once its newest checkpoint lies on disk."""
    try:
        assert any(f"step {step}/" in line for line in process.stdout), "it ended by itself"
        deadline = time.monotonic() + 60
        while not checkpoint.exists():
            assert time.monotonic() < deadline, "no checkpoint appeared"
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
def test_a_run_that_is_killed_and_started_again_ends_with_the_same_hash(tmp_path):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    # Amid the second phase, whose optimizer has another state than the first one's.
    kill_at(start(10, killed), 10, killed / "checkpoints" / "9")
    process = start(0, killed, whole)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "resuming at step 9 of 12" in output
    first, second = re.findall(r"done: step 12, variables ([0-9a-f]{64})", output)
    assert first == second
