"""Configs: dataclasses from nested dicts, strictly, and back."""

import dataclasses
import json
from typing import Literal

import hypothesis
import pytest
from hypothesis import strategies as st

from jax_elastic.errors import UsageError
from jax_elastic.training.config import build, check_keys, describe, differences


@dataclasses.dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = (1, 2)
    kind: Literal["a", "b"] = "a"


@dataclasses.dataclass(frozen=True)
class Outer:
    steps: int
    rate: float = 0.5
    flag: bool = False
    name: str = "x"
    limit: float | None = None
    inner: Inner = dataclasses.field(default_factory=Inner)


FINITE = st.floats(allow_nan=False, allow_infinity=False)
INNERS = st.builds(
    Inner, st.lists(st.integers(), max_size=4).map(tuple), st.sampled_from(["a", "b"])
)
OUTERS = st.builds(
    Outer, st.integers(), FINITE, st.booleans(), st.text(), st.none() | FINITE, INNERS
)


def message(values, cls=Outer):
    with pytest.raises(UsageError) as error:
        build(cls, values, "config")
    return str(error.value)


@hypothesis.given(OUTERS)
def test_building_from_a_description_gives_the_same_value_even_through_json(value):
    plain = describe(value)
    assert build(Outer, plain, "config") == value
    assert build(Outer, json.loads(json.dumps(plain)), "config") == value


def test_what_is_left_out_takes_its_default():
    assert build(Outer, {"steps": 3, "inner": {"kind": "b"}}, "config") == Outer(
        3, inner=Inner(kind="b")
    )


def test_a_description_writes_every_default_out():
    assert describe(Outer(3)) == {
        "steps": 3,
        "rate": 0.5,
        "flag": False,
        "name": "x",
        "limit": None,
        "inner": {"sizes": [1, 2], "kind": "a"},
    }


def test_an_unknown_key_is_refused_with_the_nearest_name():
    assert message({"steps": 1, "rte": 0.1}) == (
        "unknown config key config.rte; "
        "allowed are steps, rate, flag, name, limit, inner; did you mean config.rate?"
    )


def test_an_unknown_key_that_resembles_nothing_gets_no_suggestion():
    assert message({"steps": 1, "zzz": 0.1}).endswith(
        "allowed are steps, rate, flag, name, limit, inner"
    )


def test_a_nested_key_is_named_with_its_whole_path():
    assert "unknown config key config.inner.size;" in message({"steps": 1, "inner": {"size": 3}})
    assert "did you mean config.inner.sizes?" in message({"steps": 1, "inner": {"size": 3}})


def test_a_missing_key_is_named():
    assert message({}) == "config.steps is missing"


@pytest.mark.parametrize(
    "values,expected",
    [
        ({"steps": 1.0}, "config.steps is 1.0 (float); an int"),
        ({"steps": True}, "config.steps is True (bool); an int"),
        ({"steps": "3"}, "config.steps is '3' (str); an int"),
        ({"steps": None}, "config.steps is None (NoneType); an int"),
        ({"steps": 1, "rate": True}, "config.rate is True (bool); a float"),
        ({"steps": 1, "rate": "0.1"}, "config.rate is '0.1' (str); a float"),
        ({"steps": 1, "flag": 1}, "config.flag is 1 (int); a bool"),
        ({"steps": 1, "name": 1}, "config.name is 1 (int); a str"),
        ({"steps": 1, "limit": "no"}, "config.limit is 'no' (str); a float"),
        ({"steps": 1, "inner": 3}, "config.inner is 3; a group of keys"),
        ({"steps": 1, "inner": {"kind": "c"}}, "config.inner.kind is 'c'; one of 'a', 'b'"),
        ({"steps": 1, "inner": {"sizes": 3}}, "config.inner.sizes is 3; a list of values"),
        ({"steps": 1, "inner": {"sizes": "12"}}, "config.inner.sizes is '12'; a list of values"),
        (
            {"steps": 1, "inner": {"sizes": [1, 2.5]}},
            "config.inner.sizes[1] is 2.5 (float); an int",
        ),
    ],
    ids=lambda case: str(case)[:40],
)
def test_a_wrong_type_is_refused_by_name(values, expected):
    assert message(values) == expected


def test_a_config_that_is_no_mapping_is_refused():
    assert message([1]) == "config is [1]; a group of keys"


def test_an_int_is_a_float_where_a_float_is_wanted():
    built = build(Outer, {"steps": 1, "rate": 2, "limit": 3}, "config")
    assert (built.rate, built.limit) == (2.0, 3.0)
    assert isinstance(built.rate, float)
    assert isinstance(built.limit, float)


def test_an_optional_value_may_be_none():
    assert build(Outer, {"steps": 1, "limit": None}, "config").limit is None


def test_a_list_becomes_a_tuple():
    assert build(Inner, {"sizes": [4, 5]}, "config").sizes == (4, 5)


def test_keys_are_checked_alone_too():
    check_keys(["a"], ["a", "b"], "config")
    with pytest.raises(UsageError, match=r"unknown config key config\.c"):
        check_keys(["a", "c"], ["a", "b"], "config")


def test_differences_name_each_path_with_both_values():
    old = describe(Outer(3))
    new = describe(Outer(4, inner=Inner((1, 3))))
    assert differences(old, new, "config") == [
        "config.steps: 3 -> 4",
        "config.inner.sizes: [1, 2] -> [1, 3]",
    ]
    assert differences(old, old, "config") == []


def test_a_key_on_one_side_only_is_a_difference():
    assert differences({"a": 1}, {"b": 2}, "config") == [
        "config.a: 1 -> None",
        "config.b: None -> 2",
    ]
