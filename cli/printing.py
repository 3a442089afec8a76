"""Prints what commands found: messages on stderr, tables and JSON documents on stdout."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final

from ..engine.errors import TidegateError

CELL_WIDTH_MAX: Final = 60
SIX_DIGITS: Final = 1e6
NULL: Final = "-"


def error(message: str, hint: str = "") -> None:
    """Print `error: message`, and below it the hint."""
    sys.stderr.write(f"error: {message}\n")
    if hint:
        sys.stderr.write(f"  hint: {hint}\n")
    sys.stderr.flush()


def note(message: str) -> None:
    """Print a remark that is not part of the result."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def failure(reason: BaseException, exit_code: int) -> dict[str, object]:
    """Return the JSON form of an error, the same for all commands."""
    known = isinstance(reason, TidegateError)
    about = {
        "type": type(reason).__name__,
        "message": reason.message if isinstance(reason, TidegateError) else str(reason),
        "hint": reason.hint if isinstance(reason, TidegateError) else "",
        "retryable": known and bool(getattr(reason, "retryable", False)),
    }
    return {"error": about, "exit_code": exit_code}


def json_document(value: object) -> None:
    """Print one JSON document on a line of its own; numbers that JSON does not know (nan, inf) become null."""
    sys.stdout.write(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=_plain) + "\n")
    sys.stdout.flush()


def records(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[dict[str, object]]:
    """Return rows as objects; a column name that comes again gets a number, so that no value is lost."""
    names: list[str] = []
    for column in columns:
        name, again = column, 1
        while name in names:
            again += 1
            name = f"{column}_{again}"
        names.append(name)
    return [dict(zip(names, row, strict=True)) for row in rows]


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print an aligned table; numbers to the right, long cells cut with an ellipsis."""
    cells = [[cell(value) for value in row] for row in rows]
    numeric = [
        bool(rows) and all(isinstance(row[i], int | float | Decimal) or row[i] is None for row in rows)
        for i in range(len(columns))
    ]
    widths = [max([len(name), *(len(row[i]) for row in cells)]) for i, name in enumerate(columns)]
    for line in [list(columns), *cells]:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        sys.stdout.write("  ".join(padded).rstrip() + "\n")
    sys.stdout.flush()


def cell(value: object) -> str:
    """Return one value as a table shows it."""
    match value:
        case None:
            return NULL
        case datetime():
            text = value.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")
        case float():
            text = f"{value:.6g}" if abs(value) < SIX_DIGITS else f"{value:.2f}"
        case dict() | list():
            text = json.dumps(value, ensure_ascii=False, default=_plain)
        case _:
            text = str(_plain(value) if isinstance(value, bytes | bytearray) else value)
    # Values come from records that anybody may have written: no control character may reach the terminal.
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= CELL_WIDTH_MAX else text[: CELL_WIDTH_MAX - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _plain(value: object) -> object:
    """Return what JSON can hold for values it has no form for."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray):
        return bytes(value).hex()
    return str(value)
