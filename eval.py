"""Evaluates a trained network: `python eval.py --workdir=runs/demo --budgets=0.3,0.6`."""

import sys

from jax_elastic.cli import run

if __name__ == "__main__":
    sys.exit(run(["eval", *sys.argv[1:]]))
