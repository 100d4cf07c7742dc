"""A row as `search` writes it, for what reads its tables."""


def table_row(**changes):
    """A row of a search without the facts that are the same in all rows, and what is told of it."""
    return {
        "subnet": "full",
        "asked": None,
        "achieved": None,
        "top1": 0.9,
        "top1_ci95": [0.8, 0.95],
        "n": 9,
        "macs": 20,
        "flops": 40,
        "params": 10,
        "ms": None,
        **changes,
    }
