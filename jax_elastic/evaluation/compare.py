"""Rows of several runs side by side, and beside them what papers print."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_elastic.errors import UsageError
from jax_elastic.evaluation.plots_anytime import is_level
from jax_elastic.evaluation.plots_series import Series, series_of
from jax_elastic.evaluation.rows import Row, read_json

NEEDED = ("subnet", "n", "top1", "top1_ci95", "macs_mean", "asked", "data", "split")
SAME = {"data": "data set", "split": "split", "n": "number of images"}


def join_runs(runs: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """The rows of runs in one list, each with `run`, its run's name, and `flops_mean`, 2 x MACs.

    Args:
      runs: name -> what `eval` wrote for it.

    Raises:
      UsageError: a run without rows, rows without what a comparison needs, or runs that were
        evaluated on different images.
    """
    joined: list[dict[str, Any]] = []
    for name, rows in runs.items():
        lacking = [key for key in NEEDED if any(key not in row for row in rows)]
        if lacking or not rows:
            what = f"rows without {', '.join(lacking)}" if rows else "no rows"
            raise UsageError(f"run {name} has {what}", next_step="evaluate it again")
        joined += [{"run": name, **row, "flops_mean": 2 * row["macs_mean"]} for row in rows]
    for key, what in SAME.items():
        found = {row[key]: row["run"] for row in reversed(joined)}
        if len(found) > 1:
            told = ", ".join(f"{value} ({run})" for value, run in reversed(found.items()))
            raise UsageError(
                f"runs differ in the {what}: {told}",
                "runs that were evaluated on the same images",
            )
    return joined


def read_published(
    path: str | os.PathLike[str], methods: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Rows of a file of kind ``published``: accuracies that a paper's own table prints.

    A row has `method`, `data` (the name of the set), `top1` in [0, 1], `source` (paper and table)
    and, where they are printed, `network`, `asked`, `blocks_mean`, `blocks_total`, `top5`,
    `params`, `macs_share` (MACs as a share of the plain network's, nFLOPs), and `flops` of 2 a MAC
    or `macs_printed`, MACs, which many papers call FLOPs. Where a paper prints neither, or counts
    more than MACs, `macs` may be what our counter says of the same network. What a figure needs
    beside is taken from these alone: `macs_mean`, half of `flops`, else `macs_printed`, else
    `macs`.

    Args:
      path: the file.
      methods: those that are wanted; empty for all.

    Raises:
      UsageError: the file cannot be read, lacks one of the fields or has no such method.
    """
    rows = read_json(path, "published")
    for row in rows:
        lacking = [key for key in ("method", "data", "top1", "source") if key not in row]
        if lacking:
            raise UsageError(f"{path} has a row without {', '.join(lacking)}")
        macs = _macs(row)
        if macs is not None:
            row["macs_mean"] = macs
    known = list(dict.fromkeys(row["method"] for row in rows))
    for method in methods:
        if method not in known:
            raise UsageError(f"{path} has no method {method!r}", "it has " + ", ".join(known))
    return [row for row in rows if not methods or row["method"] in methods]


def _macs(row: Row) -> float | None:
    """MACs of a published row, those that the paper prints before those of our counter."""
    if row.get("flops") is not None:
        return float(row["flops"]) / 2
    for key in ("macs_printed", "macs"):
        if row.get(key) is not None:
            return float(row[key])
    return None


def describe_published(
    rows: Sequence[Row], data: str, file: str | os.PathLike[str], pictures: Sequence[str]
) -> list[str]:
    """Lines that tell what of papers stands beside the runs, picture by picture, and what does not.

    Args:
      rows: of `read_published`.
      data: the set of the runs.
      file: where the rows come from.
      pictures: names of those that were drawn, as `compare` calls them.
    """
    name = Path(file).name
    series = series_of((), [row for row in rows if row["data"] == data])
    lines = [f"{picture}: {_beside(picture, series)}" for picture in pictures]
    others = dict.fromkeys(row["data"] for row in rows if row["data"] != data)
    papers = dict.fromkeys(row["source"].partition(",")[0] for row in rows)
    return [
        *(lines if series else [f"{name} has none on {data}"]),
        *([f"left out: what {name} has on {', '.join(others)}"] if others else []),
        f"published figures are those that {name} has of {', '.join(papers)}; "
        "what other papers print is not there",
    ]


def _beside(picture: str, series: Sequence[Series]) -> str:
    """Which methods of papers are drawn in a picture; what is not as printed, or not there."""
    if picture in ("runs_against_macs", "error_against_macs"):
        level = [s for s in series if is_level(s)] if picture == "error_against_macs" else []
        drawn = [s for s in series if s.having("macs_mean").rows or s in level]
        bare = [s for s in _lacking(series, "macs_mean") if s not in level]
        apart = {
            "MACs by our counter:": [s for s in series if s.having("macs").rows],
            "no FLOPs are printed, so a level line:": level,
            "no FLOPs are printed of": bare,
        }
    elif picture == "runs_against_budget":
        drawn = [s for s in series if s.budgets or len(s.rows) == 1]
        asked = [s for s in drawn if s.budgets]
        apart = {
            "several points, but no budget, so left out:": [s for s in series if s not in drawn],
            "no budget, so a level line without blocks:": [s for s in drawn if s not in asked],
            "no blocks are printed of": _lacking(asked, "blocks_mean", "blocks_total"),
            "no FLOPs are printed of": _lacking(drawn, "macs_mean"),
        }
    else:
        return "runs alone"
    told = [f"{_methods(own)} ({source})" for source, own in _by_source(drawn).items()]
    told += [f"{what} {_methods(of)}" for what, of in apart.items() if of]
    return "; ".join(told if drawn else ["nothing published", *told])


def _lacking(series: Sequence[Series], *keys: str) -> list[Series]:
    return [s for s in series if any(row.get(key) is None for row in s.rows for key in keys)]


def _by_source(series: Sequence[Series]) -> dict[str, list[Series]]:
    groups: dict[str, list[Series]] = {}
    for one in series:
        groups.setdefault(one.rows[0]["source"], []).append(one)
    return groups


def _methods(series: Sequence[Series]) -> str:
    return ", ".join(one.rows[0]["method"] for one in series)
