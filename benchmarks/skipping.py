"""Time that skipped blocks give back: `python -m benchmarks.skipping [--network=resnet110]`.

Every engine against the network with all blocks and no gates, in the quicker of its two forms
(scanned segments, or the family's own forward), all in turn in one process. Each call has another
pattern of open blocks; calls of a few images are timed several at once, as a server makes them, or
else each would find the caches that the others left. Columns: the ratio of times and that of
nominal MACs; `executed` counts the micro-batches that ran; `saving` is the share of the ideal
saving (1 - MAC ratio) that was reached.

Networks: resnet32, resnet110 and resnet101 (gates cost nothing), urnet110 and urnet101 (conditional
gates are computed), sgad32 and sgad110 (a plan is computed, which has a row of its own beside the
rows that include it), urnet_digits (the package's trained network: --keeps are budgets, and its own
gates decide on images it was not trained on).
"""

import dataclasses
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from absl import flags

from benchmarks.command import run
from benchmarks.gate_patterns import NETWORKS, PATTERNS
from benchmarks.provenance import facts
from benchmarks.skipping_subject import OWN, PLAN, TRAINED, Call, Subject, Work
from benchmarks.timing import load, repeated
from jax_elastic.cli.flags import parse
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.elastic.points import CAPACITY
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import write_json
from jax_elastic.evaluation.tables import Column, format_table
from jax_elastic.inference.timing import Floats, interleaved

ENGINES = ("masked", "compacted", "sequential", "bucketed", "auto", CAPACITY)
TIMED = 16  # images at least, in as many calls as they take

COLUMNS = (
    Column("engine", "engine", left=True),
    Column("pattern", "pattern", left=True),
    Column("batch_size", "batch", str),
    Column("keep", "keep", "{:.2f}".format),
    Column("time_ratio", "time ratio", "{:.3f}".format),
    Column("low", "25 %", "{:.3f}".format),
    Column("high", "75 %", "{:.3f}".format),
    Column("mac_ratio", "MAC ratio", "{:.3f}".format),
    Column("executed_mac_ratio", "executed", "{:.3f}".format),
    Column("saving", "saving", "{:.0%}".format),
    Column("bar", "bar", "{:.3f}".format),
    Column("kept", "kept", lambda kept: "yes" if kept else "no"),
)


Measured = dict[Call, tuple[Work, Floats]]


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values = parse(argv, _define, __doc__ or "")
    configure(values)
    sizes = [int(size) for size in _numbers(values, "batch_sizes", least=1)]
    keeps = _numbers(values, "keeps", least=1e-3)
    engines, patterns = _names(values, "engines", ENGINES), _names(values, "patterns", PATTERNS)
    subject = Subject(values.network)
    patterns = [OWN] if subject.trained else patterns
    shared = {"command": "python -m benchmarks.skipping " + " ".join(argv), **facts()}
    found: list[dict[str, Any]] = []
    for size in sizes:
        dense = measure(subject.dense(size), values.rounds)
        baseline = quicker(dense)
        new = rows(values.network, dense, baseline)
        plan = subject.plan(size)
        for group in (*filter(None, [plan]), *subject.groups(engines, size, patterns, keeps)):
            # A baseline of its own, close in time: slow machines drift.
            both = {baseline: dense[baseline][0], **group}
            new += rows(values.network, measure(both, values.rounds), baseline)[1:]
        print(format_table(new, COLUMNS), flush=True)
        found += [{**row, **shared, **load()} for row in new]
        # What is done is kept, whatever comes after.
        path = values.json or f"docs/results/skipping_{values.network}.json"
        write_json(path, "skipping", found)


def measure(works: Mapping[Call, Work], rounds: int) -> Measured:
    """Every call's work, and its seconds (rounds,)."""
    timed = {call: repeated(work.run, -(-TIMED // call.batch_size)) for call, work in works.items()}
    seconds = interleaved(timed, rounds)
    return {call: (work, seconds[call]) for call, work in works.items()}


def quicker(dense: Measured) -> Call:
    """The call of the least median."""
    return min(dense, key=lambda call: float(np.median(dense[call][1])))


def rows(network: str, measured: Measured, baseline: Call) -> list[dict[str, Any]]:
    """A row per call, against one of them."""
    dense, dense_seconds = measured[baseline]
    found = []
    for call, (work, seconds) in measured.items():
        low, ratio, high = np.quantile(seconds / dense_seconds, (0.25, 0.5, 0.75))
        mac_ratio = work.macs / dense.macs
        most = bar(network, call, mac_ratio)
        row = {
            "network": network,
            **dataclasses.asdict(call),
            "achieved": work.keep,
            "time_ratio": float(ratio),
            "low": float(low),
            "high": float(high),
            "mac_ratio": mac_ratio,
            "executed_mac_ratio": work.executed / dense.macs,
            "saving": saving(call, float(ratio), mac_ratio),
            "bar": most,
            "kept": None if most is None else bool(ratio <= most),
            "baseline": baseline.engine,
            "rounds": len(seconds),
        }
        found.append(row)
    return found


def saving(call: Call, ratio: float, mac_ratio: float) -> float | None:
    """The share of the ideal saving that was reached; None where nothing is there to save."""
    if call.engine == PLAN or mac_ratio > 0.999:
        return None
    return (1 - ratio) / (1 - mac_ratio)


def bar(network: str, call: Call, mac_ratio: float) -> float | None:
    """The time ratio that a call must keep, if any: the promises of the project."""
    if call.engine != "compacted":
        return None
    cpu = jax.default_backend() == "cpu"
    if network == "resnet110" and cpu and call.batch_size in (1, 256):
        if call.keep == 1:
            return 1.08 if call.batch_size == 256 else 1.06
        return call.keep + (0.04 if call.batch_size == 256 else 0.06)
    if network == "urnet110" and cpu and call.batch_size == 256 and call.keep < 1:
        return 1 - 0.8 * (1 - mac_ratio)
    if network == "resnet101" and not cpu and call.batch_size == 128 and call.keep < 1:
        return 1 - 0.7 * (1 - mac_ratio)
    return None


def _numbers(values: flags.FlagValues, name: str, least: float) -> list[float]:
    """The numbers of a list flag.

    Raises:
      UsageError: it has none, or one that does not belong there.
    """
    texts: list[str] = values[name].value or []
    try:
        numbers = [float(text) if name == "keeps" else int(text) for text in texts]
    except ValueError:
        numbers = []
    most = 1.0 if name == "keeps" else np.inf
    if not numbers or not all(least <= number <= most for number in numbers):
        allowed = "shares in (0, 1]" if name == "keeps" else "positive whole numbers"
        raise UsageError(f"--{name}={','.join(texts)} is no list of numbers", allowed)
    return numbers


def _names(values: flags.FlagValues, name: str, known: Iterable[str]) -> list[str]:
    """The names of a list flag.

    Raises:
      UsageError: one is not known.
    """
    texts: list[str] = values[name].value or []
    for text in texts:
        if text not in known:
            raise UsageError(f"--{name} has an unknown {text!r}", "of " + ", ".join(known))
    return texts


def _define(values: flags.FlagValues) -> None:
    names = [*NETWORKS, TRAINED]
    flags.DEFINE_enum("network", "resnet110", names, "what is run", flag_values=values)
    flags.DEFINE_list("batch_sizes", ["1", "8", "64", "256"], "images", flag_values=values)
    flags.DEFINE_list(
        "keeps", ["0.25", "0.5", "0.75", "1"], "shares of open blocks", flag_values=values
    )
    which = "which blocks are open: " + ", ".join(PATTERNS)
    flags.DEFINE_list("patterns", ["independent", "nested"], which, flag_values=values)
    what = "what runs them: " + ", ".join(ENGINES)
    flags.DEFINE_list("engines", list(ENGINES), what, flag_values=values)
    flags.DEFINE_integer("rounds", 7, "of everything", lower_bound=3, flag_values=values)
    flags.DEFINE_string("json", None, "rows go here, not to docs/results", flag_values=values)
    define_platform(values)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
