"""How much of a network was used, and whether that is what was asked for (law 5)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jax_elastic.evaluation.rows import Row, name_point

REACHED = 0.05
"""Tracking error up to which a budget counts as reached."""

USAGE_KEYS = (
    *("blocks_total", "blocks_mean", "blocks_std", "blocks_p99"),
    *("achieved", "achieved_std", "achieved_p99", "tracking_error", "reached"),
)

BLOCK_KEYS = ("blocks_open", "blocks_never", "blocks_stages")


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


def usage_of_blocks(
    opened: npt.NDArray[np.bool_] | None, names: Sequence[str], stages: Sequence[Sequence[str]]
) -> dict[str, Any]:
    """Which blocks of a network were used: the keys of single blocks of `Evaluation.rows`.

    Args:
      opened: (n, N), or None for a network without gates.
      names: of the N gated blocks.
      stages: names of the blocks of each stage, see `CostModel.blocks`.
    """
    if opened is None:
        return dict.fromkeys(BLOCK_KEYS)
    shares = dict(zip(names, opened.mean(0, dtype=float).tolist(), strict=True))
    return {
        "blocks_open": shares,
        "blocks_never": [name for name, share in shares.items() if not share],
        "blocks_stages": [list(stage) for stage in stages],
    }


def describe_never(rows: Sequence[Row]) -> list[str]:
    """A line for each operating point with blocks that no image opened at any budget it was asked.

    They cost memory and nothing else.

    Args:
      rows: of an evaluation.
    """
    never: dict[str, list[Row]] = {}
    for row in rows:
        if row.get("blocks_never") is not None and not row.get("level"):
            never.setdefault(row["subnet"], []).append(row)
    lines = []
    for subnet, own in never.items():
        names = [
            name for name in own[0]["blocks_open"] if all(name in r["blocks_never"] for r in own)
        ]
        at = f"{subnet}, at any budget" if len(own) > 1 else name_point(own[0])
        if names:
            lines.append(f"opened for none of {own[0]['n']:,} images, {at}: {', '.join(names)}")
    return lines
