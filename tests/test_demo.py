"""The demo as a newcomer runs it, some minutes on two cores, and what it promises."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[1]
# Top-1 on test of the plain network, --config=configs/urnet_digits.py:base, trained as long.
PLAIN_TOP1 = 0.992


def run(*arguments):
    # Without the suite's XLA flags: they would make the small network's training slow.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(jax.config.jax_compilation_cache_dir)
    subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, env=environment, check=True, timeout=1800
    )


def train_and_evaluate(workdir, *flags):
    """The rows of `eval.json`."""
    run("train.py", f"--workdir={workdir}", *flags)
    run("eval.py", f"--workdir={workdir}")
    return json.loads((workdir / "eval.json").read_text())["rows"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Asked budget -> row of `eval.json`."""
    workdir = tmp_path_factory.mktemp("demo")
    trained = train_and_evaluate(workdir, "--config=configs/urnet_digits.py")
    return {row["asked"]: row for row in trained}


# Digits are so easy that the ends of the range are harder to keep than its middle.
@pytest.mark.parametrize(
    "asked,bar", [(0.2, 0.10), *((s / 10, 0.05) for s in range(3, 9)), (0.9, 0.10)]
)
def test_the_demo_uses_about_the_share_of_blocks_that_is_asked_for(rows, asked, bar):
    assert rows[asked]["tracking_error"] <= bar


def test_the_demo_never_uses_less_when_more_is_asked_for(rows):
    achieved = [rows[asked]["achieved"] for asked in sorted(rows)]
    assert len(achieved) == 10
    assert all(less <= more for less, more in itertools.pairwise(achieved))


def test_the_demo_spans_more_than_half_of_its_blocks(rows):
    achieved = [row["achieved"] for row in rows.values()]
    assert max(achieved) - min(achieved) >= 0.55


def test_the_demo_with_all_its_blocks_is_within_two_points_of_the_plain_network(rows):
    most = max(rows.values(), key=lambda row: row["achieved"])
    assert most["top1"] >= PLAIN_TOP1 - 0.02


# A third of the epochs: the cards of the weights that come with the package hold what all give.
@pytest.mark.parametrize("name", ["i", "is", "msdnet"])
def test_in_the_anytime_demo_more_compute_gives_a_better_answer(name, tmp_path):
    config = f"--config=configs/anytime_digits.py:{name}"
    rows = train_and_evaluate(tmp_path, config, "--config.phases.anytime.epochs=20")

    assert len(rows) == 4
    assert all(less["macs_mean"] < more["macs_mean"] for less, more in itertools.pairwise(rows))
    assert rows[-1]["top1"] >= max(0.95, rows[0]["top1"] + 0.01)
