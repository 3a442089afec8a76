"""Durations as users write them: "10s", "500ms", a number of seconds or a timedelta."""

from __future__ import annotations

import re
from datetime import timedelta

from .errors import JobInvalidError

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)\s*")


def parse_ms(value: str | float | timedelta, what: str) -> int:
    """Return a duration in milliseconds. `what` names it in the error; plain numbers are seconds.

    Raises `JobInvalidError` for text that is no duration, and for a negative one.
    """
    if isinstance(value, timedelta):
        milliseconds = value / timedelta(milliseconds=1)
    elif isinstance(value, bool):
        raise _invalid(value, what)
    elif isinstance(value, int | float):
        milliseconds = value * 1000
    else:
        found = _TEXT.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise _invalid(value, what)
        milliseconds = float(found[1]) * _UNITS_MS[found[2]]
    if not 0 <= milliseconds < 2**53:
        raise _invalid(value, what)
    return round(milliseconds)


def _invalid(value: object, what: str) -> JobInvalidError:
    return JobInvalidError(
        f"{what} is {value!r}, which is not a duration",
        hint='write "500ms", "10s", "5m", "1h", "2d", a number of seconds or a timedelta',
    )
