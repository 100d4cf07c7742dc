"""How much of a network was used, and whether that is what was asked for (law 5)."""

from typing import Any

import numpy as np
import numpy.typing as npt

REACHED = 0.05
"""Tracking error up to which a budget counts as reached."""

USAGE_KEYS = (
    *("blocks_total", "blocks_mean", "blocks_std", "blocks_p99"),
    *("achieved", "achieved_std", "achieved_p99", "tracking_error", "reached"),
)


def usage(opened: npt.NDArray[np.bool_] | None, budget: float | None) -> dict[str, Any]:
    """How much of a network was used: the keys of blocks and budgets of `Evaluation.rows`.

    Args:
      opened: (n, N), or None for a network without gates.
      budget: the share that was asked for, if any.
    """
    if opened is None:
        return dict.fromkeys(USAGE_KEYS)
    total = opened.shape[1]
    blocks = opened.sum(1)
    mean, std, p99 = float(blocks.mean()), float(blocks.std()), float(np.quantile(blocks, 0.99))
    return {
        "blocks_total": total,
        "blocks_mean": mean,
        "blocks_std": std,
        "blocks_p99": p99,
        "achieved": mean / total,
        "achieved_std": std / total,
        "achieved_p99": p99 / total,
        "tracking_error": None if budget is None else abs(mean / total - budget),
        "reached": None if budget is None else abs(mean / total - budget) <= REACHED,
    }
