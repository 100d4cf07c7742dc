"""Rows of several runs side by side, and beside them what papers print."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_elastic.errors import UsageError
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
    and, where they are printed, `network`, `asked`, `blocks_mean`, `blocks_total`, `flops`. What a
    figure needs beside is taken from these alone: `macs_mean`, half of `flops`.

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
        if row.get("flops") is not None:
            row["macs_mean"] = row["flops"] / 2
    known = list(dict.fromkeys(row["method"] for row in rows))
    for method in methods:
        if method not in known:
            raise UsageError(f"{path} has no method {method!r}", "it has " + ", ".join(known))
    return [row for row in rows if not methods or row["method"] in methods]


def describe_published(rows: Sequence[Row], data: str, file: str | os.PathLike[str]) -> str:
    """One line: which published rows stand beside runs on a data set, and which do not and why."""
    beside = [row for row in rows if row["data"] == data]
    sources = dict.fromkeys(row["source"] for row in beside)
    told = f"published: {'; '.join(sources)}" if beside else f"{Path(file).name} has none on {data}"
    papers = {row["source"].partition(",")[0] for row in rows}
    if len(papers) > 1:
        return told
    return (
        f"{told}; published figures of other methods are drawn only from their own tables; "
        f"there is none in {file}"
    )
