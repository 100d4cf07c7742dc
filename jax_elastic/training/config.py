"""Nested dicts <-> frozen dataclasses, strictly: a wrong key or type is an error at the door."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from jax_elastic.errors import UsageError

T = TypeVar("T")

KIND = "kind"
"""The key that says which of several dataclasses a group of keys is; left out, the first."""

_ARTICLES = {int: "an"}


def build(cls: Callable[..., T], values: Mapping[str, Any], where: str) -> T:
    """A frozen dataclass from a mapping.

    Args:
      cls: the dataclass. Fields may be int, float, bool, str, `Literal`, optional, tuples of
        those, dataclasses, or one of several dataclasses, which `KIND` then names in lower case.
      values: field name -> value; fields that are left out take their default.
      where: what the user calls this mapping, e.g. ``config.network``.

    Raises:
      UsageError: an unknown key (with the nearest name), a missing one, or a wrong type.
    """
    if not isinstance(values, Mapping):
        raise UsageError(f"{where} is {values!r}", "a group of keys")
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    check_keys(values, fields, where)
    built = {}
    for name, field in fields.items():
        if name in values:
            built[name] = _convert(hints[name], values[name], f"{where}.{name}")
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise UsageError(f"{where}.{name} is missing")
    return cls(**built)


def check_keys(values: Iterable[str], allowed: Iterable[str], where: str) -> None:
    """Raises a `UsageError` that names the nearest allowed key for each unknown one."""
    allowed = list(allowed)
    for key in values:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, n=1, cutoff=0.5)
            raise UsageError(
                f"unknown config key {where}.{key}",
                "allowed are " + ", ".join(allowed),
                f"did you mean {where}.{near[0]}?" if near else None,
            )


def describe(value: Any) -> Any:
    """The inverse of `build`: plain dicts, lists and scalars, for JSON; defaults included."""
    if dataclasses.is_dataclass(value):
        hints = get_type_hints(type(value))
        fields = [field.name for field in dataclasses.fields(value) if field.init]
        return {name: _describe_field(hints[name], getattr(value, name)) for name in fields}
    if isinstance(value, tuple):
        return [describe(item) for item in value]
    return value


def differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> list[str]:
    """The keys in which two descriptions differ, each as ``where.key: old -> new``."""
    found = []
    for key in dict.fromkeys([*old, *new]):
        path, a, b = f"{where}.{key}", old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, path)
        elif a != b:
            found.append(f"{path}: {a!r} -> {b!r}")
    return found


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(Callable[..., Any], hint), value, where)
    if kinds := _kinds(hint):
        return _build_kind(kinds, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        (hint,) = (arg for arg in args if arg is not type(None))
        return _convert(hint, value, where)
    if origin is Literal:
        if value not in args:
            raise UsageError(f"{where} is {value!r}", "one of " + ", ".join(map(repr, args)))
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{where} is {value!r}", "a list of values")
        return tuple(_convert(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise UsageError(
            f"{where} is {value!r} ({type(value).__name__})",
            f"{_ARTICLES.get(hint, 'a')} {hint.__name__}",
        )
    return value


def _kinds(hint: Any) -> dict[str, Callable[..., Any]]:
    """The dataclasses that a field may be one of, by name; none unless there are several."""
    if get_origin(hint) not in (Union, types.UnionType):
        return {}
    args = get_args(hint)
    several = len(args) > 1 and all(dataclasses.is_dataclass(arg) for arg in args)
    return {arg.__name__.lower(): arg for arg in args} if several else {}


def _build_kind(kinds: dict[str, Callable[..., Any]], value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where} is {value!r}", "a group of keys")
    rest = dict(value)
    kind = rest.pop(KIND, next(iter(kinds)))
    if not isinstance(kind, str) or kind not in kinds:
        raise UsageError(f"{where}.{KIND} is {kind!r}", "one of " + ", ".join(kinds))
    return build(kinds[kind], rest, where)


def _describe_field(hint: Any, value: Any) -> Any:
    described, kind = describe(value), type(value).__name__.lower()
    # The first is not named, so that the configs of runs from before there were several still fit.
    if kind in list(_kinds(hint))[1:]:
        return {KIND: kind, **described}
    return described
