"""Trains a network: `python train.py --config=configs/urnet_digits.py --workdir=runs/demo`."""

import sys

from jax_elastic.cli import run

if __name__ == "__main__":
    sys.exit(run(["train", *sys.argv[1:]]))
