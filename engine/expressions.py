"""Checks of the expressions and columns that a job gives to stateless operators, made when the job is built."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping

import polars as pl

from .errors import JobInvalidError
from .graph import Schema
from .ids import HIDDEN, HIDDEN_PREFIX
from .places import where

IntoSchema = Mapping[str, pl.DataType | type[pl.DataType] | type]


def check_name(operator: str, name: str) -> None:
    """Refuse a column name with the engine's prefix."""
    if name.startswith(HIDDEN_PREFIX):
        raise JobInvalidError(
            f"{where(operator)}: column '{name}' begins with '{HIDDEN_PREFIX}', which is kept for the engine",
            hint="choose another name",
        )


def check_names(operator: str, expressions: Iterable[pl.Expr]) -> None:
    """Refuse expressions that read or make columns with the engine's prefix."""
    for expression in expressions:
        name = expression.meta.output_name(raise_if_undetermined=False)
        for used in [*expression.meta.root_names(), *([name] if name is not None else [])]:
            check_name(operator, used)


def declared_schema(operator: str, schema: IntoSchema) -> dict[str, pl.DataType]:
    """Return a schema that a user wrote, with instances for dtypes. Raises `JobInvalidError`."""
    try:
        declared = dict(pl.Schema(schema, check_dtypes=True))
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise JobInvalidError(
            f"{where(operator)}: {schema!r} is no schema: {error}", hint='write {"column": pl.Int64, ...}'
        ) from None
    for name, dtype in declared.items():
        check_name(operator, name)
        if dtype == pl.Unknown:
            raise JobInvalidError(f"{where(operator)}: column '{name}' has no dtype")
    return declared


def derive(
    operator: str, schema: Schema, function: Callable[[pl.LazyFrame], pl.LazyFrame]
) -> Mapping[str, pl.DataType]:
    """Return the visible schema after `function`, found by running it over no rows.

    Raises `JobInvalidError` naming the unknown column, or what Polars refuses.
    """
    empty = pl.DataFrame(schema={**schema, **dict.fromkeys(HIDDEN, pl.Int64())})
    try:
        derived = function(empty.lazy()).collect(engine="in-memory").schema
    except pl.exceptions.ColumnNotFoundError as error:
        raise unknown_column(operator, _missing(str(error), schema), schema) from None
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise JobInvalidError(
            f"{where(operator)}: {str(error).splitlines()[0]}", hint=f"the stream has {describe(schema)}"
        ) from None
    for name in derived:
        if name not in HIDDEN:
            check_name(operator, name)
    return {name: dtype for name, dtype in derived.items() if name not in HIDDEN}


def _missing(message: str, schema: Schema) -> str:
    quoted = message.split('"')[1::2]
    return next((name for name in quoted if name not in schema), message.splitlines()[0])


def unknown_column(operator: str, name: str, schema: Schema) -> JobInvalidError:
    """Make the error for a column that the stream does not have."""
    close = difflib.get_close_matches(name, schema, 2, 0.6)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return JobInvalidError(
        f"{where(operator)}: there is no column '{name}'", hint=f"{hint}the stream has {describe(schema)}"
    )


def describe(schema: Schema) -> str:
    """Return a schema in one line."""
    return ", ".join(f"{name} ({dtype})" for name, dtype in schema.items())


def difference(left: Schema, right: Schema) -> str:
    """Return what distinguishes two schemas, in one line."""
    found = [f"'{name}' is missing in the second" for name in left if name not in right]
    found += [f"'{name}' is missing in the first" for name in right if name not in left]
    found += [
        f"'{name}' is {left[name]} and {right[name]}" for name in left if name in right and left[name] != right[name]
    ]
    return ", ".join(found) or f"the order is {', '.join(left)} and {', '.join(right)}"
