"""Trains the small networks that come with the package: `python -m benchmarks.weights NAME ...`.

About 2 minutes each on 2 CPU cores. NAMEs: plain_digits, urnet_digits, iresnext_digits,
isresnext_digits, msdnet_digits, resizable_digits, sgad_digits.
"""

import sys
from pathlib import Path

from benchmarks.command import run
from benchmarks.provenance import facts
from jax_elastic.cli.flags import parse_with_names, read_config
from jax_elastic.cli.platform import configure
from jax_elastic.cli.platform import define as define_platform
from jax_elastic.data.datasets import load
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.evaluate import Evaluator
from jax_elastic.evaluation.tables import format_table
from jax_elastic.inference.pretrained import write_pretrained
from jax_elastic.training.loop import train
from jax_elastic.training.workdir import claim, load_variables

NETWORKS = {
    "plain_digits": "configs/urnet_digits.py:base",
    "urnet_digits": "configs/urnet_digits.py",
    "iresnext_digits": "configs/anytime_digits.py:i",
    "isresnext_digits": "configs/anytime_digits.py:is",
    "msdnet_digits": "configs/anytime_digits.py:msdnet",
    "resizable_digits": "configs/resizable_digits.py",
    "sgad_digits": "configs/sgad_digits.py",
}
"""Name -> its config."""
LARGEST = 600_000  # bytes: they live in the repository


def main(argv: list[str]) -> None:
    """Runs the command with its arguments."""
    values, names = parse_with_names(argv, define_platform, __doc__ or "", "NAMEs")
    for name in names:
        if name not in NETWORKS:
            raise UsageError(f"unknown network {name!r}", "one of " + ", ".join(NETWORKS))
    configure(values)
    for name in names:
        make(name)


def make(name: str) -> None:
    """Trains, evaluates and writes one network."""
    config = NETWORKS[name]
    experiment, _ = read_config([f"--config={config}"], config)
    workdir = Path("runs/weights") / name
    claim(workdir, experiment)
    train(experiment, workdir)
    variables, meta = load_variables(workdir, experiment)
    rows = Evaluator(experiment.network, load(experiment.data, "test"), experiment.data)(
        variables
    ).rows
    described = {
        "command": f"python -m benchmarks.weights {name}",
        "about": f"{config}, seed {experiment.seed}, after its last step",
        "step": meta["step"],
        **facts(),
    }
    path = write_pretrained(name, experiment, variables, rows, described)
    size = path.stat().st_size
    print(f"{path}: {size:,} bytes")
    print(format_table(rows))
    if size > LARGEST:
        raise UsageError(f"{path} has {size:,} bytes", f"at most {LARGEST:,}", "use fewer channels")


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
