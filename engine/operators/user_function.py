"""Wraps a user's DataFrame function so that what it returns is checked and event times survive it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from ..errors import OperatorError
from ..graph import Schema
from ..ids import HIDDEN, TIME


def wrap_function(
    label: str, function: Callable[[pl.DataFrame], pl.DataFrame], given: Schema, declared: Mapping[str, pl.DataType]
) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Return a function over whole frames that gives `function` the visible columns and TIME, and checks its result."""
    visible = [*given, TIME]

    def call(frame: pl.DataFrame) -> pl.DataFrame:
        result = function(frame.select(visible))
        if not isinstance(result, pl.DataFrame):
            raise OperatorError(f"{label} returned {type(result).__name__}, not a polars DataFrame")
        columns = {name: dtype for name, dtype in result.schema.items() if name != TIME}
        if columns != dict(declared):
            missing = sorted(set(declared) - set(columns))
            hint = f'did you forget .alias("{missing[0]}")?' if missing else "the dtypes have to be equal, too"
            raise OperatorError(f"{label} returned columns {_text(columns)}; declared schema is {_text(declared)}", hint=hint)
        hidden = [name for name in HIDDEN if name in frame.columns]
        if TIME in result.columns:
            return result.select(*declared, pl.col(TIME).cast(pl.Int64))
        if result.height != frame.height:
            raise OperatorError(
                f"{label} returned {result.height} rows for {frame.height} and no column '{TIME}'",
                hint=f"keep the column '{TIME}' (event time in ms) in the result when the number of rows changes",
            )
        return result.select(*declared).with_columns(frame.get_column(name) for name in hidden)

    return call


def _text(schema: Mapping[str, pl.DataType]) -> str:
    return "[" + ", ".join(f"{name} ({dtype})" for name, dtype in schema.items()) + "]"
