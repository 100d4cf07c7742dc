"""Law 6 against the real thing: processes that are killed outright."""

from pathlib import Path

import jax
import pytest

from benchmarks.kills import VICTIM, kill_runs


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(tmp_path):
    cache = Path(jax.config.jax_compilation_cache_dir)

    found = kill_runs(VICTIM, 20, 0, tmp_path, cache, report=print)

    assert set(found.ends) == {found.whole}
    # Or the moments would prove little: amid both phases, of 12 steps each, and amid saves.
    steps = [kill.step for kill in found.kills if kill.step is not None]
    assert min(steps) < 12 < max(steps)
    assert any(kill.save for kill in found.kills)
