"""Checks of the expressions that a job gives to stateless operators, made when the job is built."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping

import polars as pl

from .errors import JobInvalidError
from .graph import Schema
from .ids import HIDDEN, HIDDEN_PREFIX
from .places import user_place

_ALTERNATIVES = (
    (("shift", "diff", "pct_change", "forward", "backward"), "a row's neighbours depend on where a batch ends"),
    (("cum_", "rolling"), "use key_by(...).window(...).agg(...), which keeps its state across batches"),
    (("over",), "use key_by(...).window(...).agg(...) instead of over(...)"),
    (("sum", "mean", "min", "max", "len", "count", "first", "last"), "use key_by(...).window(...).agg(...) to aggregate"),
)


def where(operator: str) -> str:
    """Return the operator with the user's line, for the beginning of a message."""
    place = user_place()
    return f"{operator} at {place}" if place else operator


def check_separable(operator: str, expressions: Iterable[pl.Expr]) -> None:
    """Refuse expressions whose result depends on which rows happen to share a batch."""
    for expression in expressions:
        try:
            separable = expression.meta.is_row_separable()
        except pl.exceptions.PolarsError:
            # Polars cannot tell for user functions such as map_elements; they see one value at a time.
            continue
        if not separable:
            text = str(expression)
            reason = next((why for words, why in _ALTERNATIVES if any(word in text for word in words)), "")
            raise JobInvalidError(
                f"{where(operator)}: expression {text} gives another result when rows are split into batches differently",
                hint=reason or "a stateless operator takes expressions that look at one row at a time",
            )


def check_names(operator: str, expressions: Iterable[pl.Expr]) -> None:
    """Refuse expressions that read or make columns with the engine's prefix."""
    for expression in expressions:
        try:
            names = [*expression.meta.root_names(), expression.meta.output_name(raise_if_undetermined=False)]
        except pl.exceptions.PolarsError:
            continue
        for name in names:
            if name is not None and name.startswith(HIDDEN_PREFIX):
                raise JobInvalidError(
                    f"{where(operator)}: column '{name}' begins with '{HIDDEN_PREFIX}', which is kept for the engine",
                    hint="choose another name",
                )


def derive(
    operator: str, schema: Schema, function: Callable[[pl.LazyFrame], pl.LazyFrame]
) -> Mapping[str, pl.DataType]:
    """Return the visible schema after `function`. Raises `JobInvalidError` naming what Polars refuses."""
    full = {**schema, **dict.fromkeys(HIDDEN, pl.Int64())}
    try:
        derived = function(pl.LazyFrame(schema=full)).collect_schema()
    except pl.exceptions.ColumnNotFoundError as error:
        raise unknown_column(operator, _missing(str(error), schema), schema) from None
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise JobInvalidError(
            f"{where(operator)}: {str(error).splitlines()[0]}", hint=f"the stream has {describe(schema)}"
        ) from None
    return {name: dtype for name, dtype in derived.items() if not name.startswith(HIDDEN_PREFIX)}


def _missing(message: str, schema: Schema) -> str:
    parts = message.split('"')
    candidates = [part for part in parts[1::2] if part not in schema]
    return candidates[0] if candidates else message.splitlines()[0]


def unknown_column(operator: str, name: str, schema: Schema) -> JobInvalidError:
    """Make the error for a column that the stream does not have."""
    close = difflib.get_close_matches(name, schema, 2, 0.6)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return JobInvalidError(f"{where(operator)}: there is no column '{name}'", hint=f"{hint}the stream has {describe(schema)}")


def describe(schema: Schema) -> str:
    """Return a schema in one line."""
    return ", ".join(f"{name} ({dtype})" for name, dtype in schema.items())
