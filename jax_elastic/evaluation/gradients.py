"""How often blocks run, beside how large the gradients of the same blocks are in another run.

References:
  SGAD (2018), figure 4: of a plain network the magnitude falls within each stage, and the share of
  the images for which a network that drops blocks keeps them follows it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from jax_elastic.evaluation.ranks import rank_correlation
from jax_elastic.evaluation.rows import Row, name_point
from jax_elastic.training.magnitudes import GRADIENT

OVER_BLOCKS = (
    "intervals of rank correlations are over the blocks of one network; "
    "networks of other seeds can differ by more"
)


@dataclasses.dataclass(frozen=True)
class Gradients:
    """The gradients of a run, on average over its training.

    Attributes:
      run: its name.
      segments: names of what its network computes, in order.
      means: segment -> mean |dL/dW| over the steps in which it was measured.
      steps: how many steps measured something.
      of: how many steps there were.
    """

    run: str
    segments: tuple[str, ...]
    means: Mapping[str, float]
    steps: int
    of: int


def has_gradients(row: Row) -> bool:
    """Whether a metric row tells of gradients."""
    return any(key.startswith(GRADIENT) for key in row)


def read_gradients(run: str, segments: Sequence[str], rows: Sequence[Row]) -> Gradients:
    """What the metric rows of a run tell of gradients.

    Args:
      run: its name.
      segments: of its network at the fullest point.
      rows: of `metrics.jsonl`; some have gradients.
    """
    trained = [row for row in rows if row["kind"] == "train"]
    measured = [row for row in trained if has_gradients(row)]
    totals: dict[str, tuple[float, int]] = {}
    for row in measured:
        for key in filter(lambda key: key.startswith(GRADIENT), row):
            name = key.removeprefix(GRADIENT)
            total, steps = totals.get(name, (0.0, 0))
            totals[name] = total + row[key] * row["steps"], steps + row["steps"]
    return Gradients(
        run=run,
        segments=tuple(segments),
        means={name: total / steps for name, (total, steps) in totals.items()},
        steps=sum(row["steps"] for row in measured),
        of=sum(row["steps"] for row in trained),
    )


def beside_gradients(row: Row, gradients: Gradients) -> dict[str, Any] | None:
    """An evaluation's blocks beside the gradients of another run.

    Args:
      row: of an evaluation, with `blocks_open` and `blocks_stages`.
      gradients: of a run.

    Returns:
      `run`, `steps`; `gradient`, block -> mean |dL/dW|, also of blocks that always run;
      `stages` and `falling`, how many there are and in how many each block has less than the one
      before; `rises`, the blocks that have not; `blocks`, how many are gated, and over these the
      `rank_correlation` of gradient and share open, with `rank_correlation_ci95`, and the same
      `_within` stages, which differ in the size of their kernels; None where there is no order, see
      `rank_correlation`. None where the networks do not have the same blocks.
    """
    stages: list[list[str]] = row["blocks_stages"]
    blocks = [name for stage in stages for name in stage]
    own = gradients.segments
    # The last one is the head.
    if blocks[0] not in own or list(own[own.index(blocks[0]) : -1]) != blocks:
        return None
    if any(name not in gradients.means for name in blocks):
        return None
    means = {name: gradients.means[name] for name in blocks}
    rises = [name for name, fell in falls(means, stages).items() if not fell]
    shares: dict[str, float] = row["blocks_open"]
    pairs = [means[name] for name in shares], list(shares.values())
    stage_of = {name: i for i, stage in enumerate(stages) for name in stage}
    over = rank_correlation(*pairs)
    within = rank_correlation(*pairs, [stage_of[name] for name in shares])
    return {
        "run": gradients.run,
        "steps": gradients.steps,
        "gradient": means,
        "stages": len(stages),
        "falling": sum(set(stage).isdisjoint(rises) for stage in stages),
        "rises": rises,
        "blocks": len(shares),
        "rank_correlation": over and over.value,
        "rank_correlation_ci95": over and (over.low, over.high),
        "rank_correlation_within": within and within.value,
        "rank_correlation_within_ci95": within and (within.low, within.high),
    }


def falls(means: Mapping[str, float], stages: Sequence[Sequence[str]]) -> dict[str, bool]:
    """Whether each block's gradients are smaller than those of the one before it in its stage.

    Args:
      means: block -> mean |dL/dW|.
      stages: names of the blocks of each stage, see `CostModel.blocks`.

    Returns:
      By name, in their order, of every block but the first of each stage.
    """
    pairs = [pair for stage in stages for pair in pairwise(stage)]
    return {after: means[after] < means[before] for before, after in pairs}


def with_gradients(rows: Sequence[Row], gradients: Sequence[Gradients]) -> list[dict[str, Any]]:
    """Rows of `join_runs`; those with gates have `gradients`, what stands beside each run's.

    A run without the same blocks is left out of it.
    """
    if not gradients:
        return [dict(row) for row in rows]
    found = []
    for row in rows:
        beside = [beside_gradients(row, own) for own in gradients] if row.get("blocks_open") else []
        found.append({**row, "gradients": [one for one in beside if one is not None]})
    return found


def describe_gradients(rows: Sequence[Row], gradients: Sequence[Gradients]) -> list[str]:
    """Lines that tell what stands beside the gradients of each run, and what does not.

    Args:
      rows: of `with_gradients`.
      gradients: the same.
    """
    gated = [row for row in rows if row.get("blocks_total")]
    lines = []
    ordered = False
    for own in gradients:
        beside = [(row, one) for row in gated for one in row["gradients"] if one["run"] == own.run]
        if own.steps < own.of:
            lines.append(f"gradients of {own.run}: of {own.steps} of its {own.of} steps alone")
        lines += dict.fromkeys(_fall(one) for _, one in beside)
        lines += [_correlation(row, one) for row, one in beside]
        ordered |= any(one["rank_correlation"] is not None for _, one in beside)
        there = [row for row, _ in beside]
        apart = dict.fromkeys(_apart(row) for row in gated if row not in there)
        lines += [f"gradients of {own.run}: not beside {told}" for told in apart]
    return [*lines, OVER_BLOCKS] if ordered else lines


def _apart(row: Row) -> str:
    if row.get("blocks_open"):
        return f"{row['run']}, whose blocks are others"
    return f"{row['run']}, of whose blocks nothing was told; evaluate it again"


def _fall(one: Row) -> str:
    told = f"fall from block to block in {one['falling']} of {one['stages']} stages"
    rises = f"; they do not at {', '.join(one['rises'])}" if one["rises"] else ""
    return f"gradients of {one['run']}: {told}{rises}"


def _correlation(row: Row, one: Row) -> str:
    where = f"{row['run']}, {name_point(row)}, beside gradients of {one['run']}"
    if one["rank_correlation"] is None:
        return f"{where}: no rank correlation, for its {one['blocks']} blocks have no order"
    over, within = (_interval(one, key) for key in ("rank_correlation", "rank_correlation_within"))
    return f"{where}: rank correlation {over} over {one['blocks']} blocks, within stages {within}"


def _interval(one: Row, key: str) -> str:
    if one[key] is None:
        return "none"
    low, high = one[f"{key}_ci95"]
    return f"{one[key]:.2f} [{low:.2f}, {high:.2f}]"
