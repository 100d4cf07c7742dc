"""`python -m jax_elastic COMMAND`; also the console script `jax-elastic`."""

import sys

from jax_elastic.cli import run


def main() -> None:
    """Runs the command of `sys.argv` and exits with its code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
