"""Which operating points `eval` takes of a network that has many."""

from pathlib import Path

import families
import pytest

from jax_elastic.cli.eval_command import by_default, points, replaced
from jax_elastic.errors import UsageError
from jax_elastic.evaluation.rows import write_json

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


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ((), ""),
        (("width:1",), ""),
        (("width:1", "width:2"), " had 1 other row, replaced"),
        (("width:2", "width:3"), " had 2 other rows, replaced"),
    ],
)
def test_rows_of_other_points_that_a_file_had_are_counted(
    before: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "eval.json"
    write_json(path, "eval", [{"subnet": subnet, "asked": None} for subnet in before])
    assert replaced(path, [{"subnet": "width:1", "asked": None}]) == (told and f"{path}{told}")


def test_a_file_that_is_not_there_or_cannot_be_read_has_no_rows_to_lose(tmp_path: Path) -> None:
    path = tmp_path / "eval.json"
    assert replaced(path, []) == ""
    path.write_text("{")
    assert replaced(path, []) == ""
