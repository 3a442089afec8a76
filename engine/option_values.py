"""Readers of option values: each takes what a layer gave (a Python or TOML value, text) and the words for messages.

All raise `JobInvalidError` that says which option of which layer had which value, and what it must be.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from .durations import parse_ms
from .errors import JobInvalidError

Parser = Callable[[object, str], object]
_SIZE = re.compile(r"(\d+)\s*([kmgt]?)(i?)(b?)", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


def refuse(what: str, value: object, must: str) -> JobInvalidError:
    """Return the error for a value that an option cannot have."""
    return JobInvalidError(f"{what} is {value!r}; it must be {must}")


def text(value: object, what: str) -> str:
    """Read text or a path."""
    if isinstance(value, str | os.PathLike):
        result = os.fspath(value)
        if isinstance(result, str) and result.strip():
            return result
    raise refuse(what, value, "text")


def flag(value: object, what: str) -> bool:
    """Read a yes or no."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise refuse(what, value, "true or false")


def at_least(least: int) -> Parser:
    """Make the reader of a whole number that is not below `least`."""
    must = f"a whole number, {least} or more"

    def parse(value: object, what: str) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"\s*-?\d+\s*", value) else value
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise refuse(what, value, must)
        return number

    return parse


def seconds(*, above_zero: bool = False) -> Parser:
    """Make the reader of a duration, as seconds; plain numbers are seconds, also as text."""

    def parse(value: object, what: str) -> float:
        must = 'a duration such as "500ms", "10s" or a number of seconds' + (" above zero" if above_zero else "")
        if isinstance(value, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float | timedelta):
            raise refuse(what, value, must)
        ms = parse_ms(value, what)
        if ms < 0 or (above_zero and ms == 0):
            raise refuse(what, value, must)
        return ms / 1000

    return parse


def choice(*words: str) -> Parser:
    """Make the reader of one of a few words."""

    def parse(value: object, what: str) -> str:
        if value not in words:
            raise refuse(what, value, " or ".join(words))
        return str(value)

    return parse


def size(value: object, what: str) -> int:
    """Read a number of bytes: a whole number, or text such as `64MB` (powers of 1000) or `64MiB` (of 1024)."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found and int(found[1]) > 0:
        base = 1024 if found[3] else 1000
        return int(found[1]) * int(base ** _POWERS[found[2].lower()])
    raise refuse(what, value, 'a number of bytes or a size such as "64MB"')
