"""Usage is what the open gates of the images say, and blocks that nobody uses are named."""

import numpy as np

from jax_elastic.evaluation.usage import describe_never, usage

OPENED = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 1, 0, 0, 0]], bool)
ROW = {
    "subnet": "full",
    "asked": 0.2,
    "n": 1200,
    "blocks_never": ["block2", "block4"],
    "blocks_open": {"block1": 1.0, "block2": 0.0, "block4": 0.0},
}


def test_blocks_that_are_unused_at_every_budget_are_said_once():
    dearer = {**ROW, "asked": 0.8, "blocks_never": ["block4"]}
    coarse = {**ROW, "level": 1, "blocks_never": []}
    fixed = {**ROW, "subnet": "blocks:1,0,0", "blocks_never": None}
    assert describe_never([ROW, dearer, coarse, fixed]) == [
        "opened for none of 1,200 images, full, at any budget: block4"
    ]


def test_unused_blocks_at_one_budget_are_said_of_it():
    (line,) = describe_never([ROW])
    assert line == "opened for none of 1,200 images, full at budget 0.2: block2, block4"


def test_where_some_budget_uses_every_block_nothing_is_said():
    assert not describe_never([ROW, {**ROW, "blocks_never": []}])


def test_usage_without_a_budget_has_no_tracking_error():
    row = usage(OPENED, None)
    assert (row["achieved"], row["tracking_error"]) == (0.4, None)


def test_usage_with_and_without_gates_has_the_same_keys():
    assert usage(None, None).keys() == usage(OPENED, 0.6).keys()
