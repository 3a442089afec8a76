"""Dataclasses to JSON values and back, by their type hints, strictly: no missing, no unknown, no converted values.

Handles int, str, bool, enums of strings, `object` (any JSON value), optional values, tuples of one type, dictionaries
with string names, and dataclasses of these.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

DEPTH_MAX: Final = 64
"""How deep a free JSON value may nest."""


class ShapeError(ValueError):
    """A value does not have the shape that its type hint says; the message begins with the value's place."""


def to_plain(value: object) -> dict[str, object]:
    """Turn a dataclass into JSON values; raises `ShapeError` for values that JSON cannot hold."""
    plain = _write(value, "", 0)
    if not isinstance(plain, dict):
        raise ShapeError(f"{type(value).__name__} is no dataclass")
    return plain


def from_plain(shape: type[T], value: object, place: str = "") -> T:
    """Make an instance of a dataclass from JSON values; raises `ShapeError`."""
    made: T = _read(shape, value, place)
    return made


def _write(value: object, place: str, depth: int) -> object:
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _write(getattr(value, f.name), _at(place, f.name), 0) for f in dataclasses.fields(value)}
    if depth > DEPTH_MAX:
        raise ShapeError(f"{place} nests deeper than {DEPTH_MAX}")
    if isinstance(value, Mapping):
        if any(not isinstance(name, str) for name in value):
            raise ShapeError(f"{place} has a name that is no string")
        return {name: _write(item, _at(place, name), depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_write(item, f"{place}[{i}]", depth + 1) for i, item in enumerate(value)]
    if value is None or type(value) in {bool, int, str} or (type(value) is float and math.isfinite(value)):
        return value
    raise ShapeError(f"{place} is {value!r} ({type(value).__name__}), which JSON cannot hold")


def _read(shape: Any, value: Any, place: str) -> Any:
    if shape is object:
        return value
    if dataclasses.is_dataclass(shape):
        return _read_fields(shape, value, place)
    origin, arguments = get_origin(shape), get_args(shape)
    if origin in {Union, types.UnionType}:
        inner = next(a for a in arguments if a is not type(None))
        return None if value is None else _read(inner, value, place)
    if origin is tuple:
        return tuple(_read(arguments[0], v, f"{place}[{i}]") for i, v in enumerate(_typed(list, value, place)))
    if origin is dict:
        return {name: _read(arguments[1], v, _at(place, name)) for name, v in _typed(dict, value, place).items()}
    return _read_enum(shape, value, place) if issubclass(shape, Enum) else _typed(shape, value, place)


def _read_enum(shape: Any, value: Any, place: str) -> Any:
    try:
        return shape(value)
    except ValueError:
        raise ShapeError(f"{place} is {value!r}, expected one of {[m.value for m in shape]}") from None


def _read_fields(shape: Any, value: Any, place: str) -> Any:
    hints = _hints(shape)
    given = _typed(dict, value, place)
    for name in hints.keys() ^ given.keys():
        raise ShapeError(f"{_at(place, name)} is {'missing' if name in hints else 'not known'}")
    return shape(**{name: _read(hint, given[name], _at(place, name)) for name, hint in hints.items()})


def _typed(shape: type, value: Any, place: str) -> Any:
    if type(value) is not shape:
        raise ShapeError(f"{place or 'the object'} is {type(value).__name__}, expected {shape.__name__}")
    return value


@cache
def _hints(shape: type) -> dict[str, Any]:
    return get_type_hints(shape)


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
