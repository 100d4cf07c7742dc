"""Which operating points `eval` takes of a network that has many."""

import families
import pytest

from jax_elastic.cli.eval_command import by_default, points
from jax_elastic.errors import UsageError

NETWORK = families.SMALL["resizable"]
SPACE = NETWORK.subnets


def test_a_sample_is_the_same_in_every_run() -> None:
    drawn = points(NETWORK, [], 3)
    assert drawn is not None and len(drawn) == 3
    assert drawn == points(NETWORK, [], 3)
    assert set(drawn) < set(SPACE)


def test_points_that_are_named_come_beside_the_sample_and_only_once() -> None:
    assert points(NETWORK, [SPACE.fullest], len(SPACE)) == list(SPACE)
    assert points(NETWORK, [SPACE.fullest] * 2, None) == [SPACE.fullest]


def test_without_either_the_evaluator_chooses() -> None:
    assert points(NETWORK, [], None) == []


@pytest.mark.parametrize("name", ["resizable", "adapt"])
def test_where_images_choose_the_candidates_come_first_by_themselves(name: str) -> None:
    network = families.SMALL[name]
    chosen = [*network.candidates, *network.shown] if name == "adapt" else []
    assert by_default(network) == chosen


def test_a_sample_of_more_points_than_there_are_is_refused() -> None:
    with pytest.raises(UsageError, match="5 of 4 operating points cannot be sampled; 1 to 4"):
        points(NETWORK, [], 5)
