"""Trees that parts at one path give are put together, whatever they have in common."""

import pytest

from jax_elastic.elastic.resizable.stretches import put


@pytest.mark.parametrize(
    "path,node,expected",
    [
        (("a",), {"y": 2}, {"a": {"x": {"k": 1}, "y": 2}}),
        (("a",), {"x": {"l": 2}}, {"a": {"x": {"k": 1, "l": 2}}}),
        (("a", "x"), {"l": 2}, {"a": {"x": {"k": 1, "l": 2}}}),
        (("b", "x"), {"k": 2}, {"a": {"x": {"k": 1}}, "b": {"x": {"k": 2}}}),
        (("a",), {"x": {"k": 2}}, {"a": {"x": {"k": 2}}}),
    ],
    ids=["a child", "below a child", "deeper", "elsewhere", "the same leaf"],
)
def test_what_is_put_is_merged_with_what_is_there(path, node, expected):
    tree = {"a": {"x": {"k": 1}}}
    put(tree, path, node)
    assert tree == expected
