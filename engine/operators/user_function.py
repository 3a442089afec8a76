"""Wraps a user's DataFrame function so that what it returns is checked and event times survive it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import polars as pl

from ..errors import OperatorError
from ..graph import Schema
from ..ids import HIDDEN, TIME


def wrap_function(
    label: str,
    function: Callable[[pl.DataFrame], pl.DataFrame],
    given: Schema,
    declared: Mapping[str, pl.DataType],
    *,
    event_time: bool,
) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Return a function over whole frames that calls the user's one and checks its result.

    The user's function gets the visible columns, and TIME if `event_time`. Without it hidden columns are put back by
    position; with it the number of rows may change, and the new rows' place among rows of equal event time is that of
    the batch's first row. Raises `OperatorError` for a result that does not fit.
    """
    wanted = {**declared, TIME: pl.Int64()} if event_time else dict(declared)
    visible = [*given, *([TIME] if event_time else [])]

    def call(frame: pl.DataFrame) -> pl.DataFrame:
        result = function(frame.select(visible))
        if not isinstance(result, pl.DataFrame):
            raise OperatorError(
                f"{label} returned {type(result).__name__}, not a polars DataFrame", hint="return a DataFrame"
            )
        if dict(result.schema) != wanted:
            raise _misfit(label, result.schema, wanted, renamed=event_time)
        result = result.select(*wanted)
        if event_time and result.get_column(TIME).null_count():
            raise OperatorError(f"{label} returned nulls in '{TIME}'", hint="every row needs an event time (Int64, ms)")
        hidden = [name for name in HIDDEN if name in frame.columns and name not in wanted]
        if result.height == frame.height:
            return result.with_columns(frame.get_column(name) for name in hidden)
        if not event_time:
            raise OperatorError(
                f"{label} returned {result.height} rows for {frame.height}, so their event times are unknown",
                hint=f"write map_batches(fn, schema, event_time=True) and keep the column '{TIME}' in the result",
            )
        return result.with_columns(pl.lit(frame.item(0, name), frame.schema[name]).alias(name) for name in hidden)

    return call


def _misfit(label: str, found: Schema, wanted: Schema, *, renamed: bool) -> OperatorError:
    names, text = list(found) != list(wanted), _names(found, wanted)
    missing = [name for name in wanted if name not in found]
    if missing and renamed and missing == [TIME]:
        hint = f"with event_time=True the result needs the column '{TIME}'"
    elif missing:
        hint = f'did you forget .alias("{missing[0]}")?'
    elif names:
        hint = "leave the other columns out with .select(...), or declare them"
    else:
        hint = "cast the columns, or declare the dtypes that the function returns"
    return OperatorError(f"{label} returned columns {text}", hint=hint)


def _names(found: Schema, wanted: Schema) -> str:
    same = set(found) == set(wanted)
    left, right = ([f"{n} ({d})" if same else n for n, d in schema.items()] for schema in (found, wanted))
    return f"[{', '.join(left)}]; declared schema is [{', '.join(right)}]"
