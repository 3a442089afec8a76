"""Aggregates: what users write, how partial results look, how two partials combine, and how results are read off them.

| aggregate | partial columns | combine | result |
|---|---|---|---|
| count | `__rows` | add | `__rows` |
| sum | `__sum_x` | add | itself, 0 where every value was null |
| min, max | `__min_x`, `__max_x` | min, max | itself |
| mean | `__meansum_x`, `__n_x` | add | quotient, null where every value was null |
| first, last | `__first_x` and its event time, split and offset | smallest, largest | itself |

`__rows` is always there: it counts input rows, also those of late partials. Integers are summed as 64-bit integers and
wrap around beyond them, as in Polars. `first` and `last` expect rows sorted by event time, split and offset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from ..errors import JobInvalidError
from ..expressions import check_name, unknown_column
from ..graph import Aggregate, Schema
from ..ids import OFFSET, SPLIT, TIME
from ..places import where
from ..ports.keyed import Merge

ROWS: Final = "__rows"
KINDS: Final = ("count", "sum", "min", "max", "mean", "first", "last")
_NUMERIC: Final = ("sum", "mean")
_COMPARED: Final = ("min", "max")
_WINDOW_COLUMNS: Final = ("window_start", "window_end")


@dataclass(frozen=True)
class Agg:
    """An aggregate as the job file writes it; `name` is the output column."""

    kind: str
    column: str | None = None
    name: str | None = None

    def alias(self, name: str) -> Agg:
        """Name the output column."""
        return Agg(self.kind, self.column, name)


def count() -> Agg:
    """Count rows (Int64)."""
    return Agg("count")


def sum_(column: str) -> Agg:
    """Sum a numeric column; nulls are passed over, 0 where all values are null."""
    return Agg("sum", column)


def min_(column: str) -> Agg:
    """Smallest value; nulls are passed over."""
    return Agg("min", column)


def max_(column: str) -> Agg:
    """Largest value; nulls are passed over."""
    return Agg("max", column)


def mean(column: str) -> Agg:
    """Arithmetic mean (Float64); nulls are passed over."""
    return Agg("mean", column)


def first(column: str) -> Agg:
    """Value of the row with the smallest event time, then split and offset; may be null."""
    return Agg("first", column)


def last(column: str) -> Agg:
    """Value of the row with the largest event time, then split and offset; may be null."""
    return Agg("last", column)


def resolve(
    operator: str, positional: Iterable[object], named: Mapping[str, object], schema: Schema, keys: tuple[str, ...]
) -> tuple[Aggregate, ...]:
    """Return checked aggregates with names. Raises `JobInvalidError`."""
    written = [(None, item) for item in positional] + list(named.items())
    if not written:
        raise JobInvalidError(f"{where(operator)}: no aggregate given", hint="write agg(n=tg.count(), uid=...)")
    resolved: list[Aggregate] = []
    for name, item in written:
        agg = item if isinstance(item, Agg) else _from_expression(operator, item)
        _check_input(operator, agg, schema)
        output = name or agg.name or (agg.column if agg.column is not None else "count")
        check_name(operator, output)
        if output in {*keys, *_WINDOW_COLUMNS, *(a.name for a in resolved)}:
            raise JobInvalidError(
                f"{where(operator)}: output column '{output}' is taken",
                hint='name it another way, e.g. with .alias("other"); '
                "keys, window_start and window_end are in the result already",
            )
        resolved.append(Aggregate(agg.kind, output, agg.column))
    return tuple(resolved)


def _check_input(operator: str, agg: Agg, schema: Schema) -> None:
    if agg.kind == "count":
        return
    if not isinstance(agg.column, str):
        raise JobInvalidError(
            f"{where(operator)}: {agg.kind}({agg.column}) takes the name of a column",
            hint=f'compute it first with with_columns(x=...), then tg.{agg.kind}("x")',
        )
    if agg.column not in schema:
        raise unknown_column(operator, agg.column, schema)
    dtype = schema[agg.column]
    if agg.kind in _NUMERIC and not dtype.is_numeric():
        raise JobInvalidError(
            f"{where(operator)}: {agg.kind} of column '{agg.column}' ({dtype}) needs numbers",
            hint="cast it first with with_columns(...)",
        )
    if agg.kind in _COMPARED and (dtype.is_nested() or dtype in {pl.Object, pl.Categorical}):
        raise JobInvalidError(
            f"{where(operator)}: {agg.kind} of column '{agg.column}' ({dtype}) has no meaning",
            hint="use one of its fields, or cast it first with with_columns(...)",
        )


def _from_expression(operator: str, item: object) -> Agg:
    if isinstance(item, pl.Expr) and not item.meta.has_multiple_outputs():
        plain = item.meta.undo_aliases()
        output = item.meta.output_name(raise_if_undetermined=False)
        if plain.meta.eq(pl.len()):
            return Agg("count", None, output if output != "len" else None)
        roots = item.meta.root_names()
        if len(roots) == 1:
            for kind, expression in _candidates(roots[0]).items():
                if plain.meta.eq(expression):
                    return Agg(kind, roots[0], output)
    raise JobInvalidError(
        f"{where(operator)}: {item} cannot be kept up to date row by row",
        hint='use tg.count(), tg.sum("x"), tg.min("x"), tg.max("x"), tg.mean("x"), tg.first("x") or tg.last("x"), '
        "and compute their input before and their result after with with_columns(...)",
    )


def _candidates(column: str) -> dict[str, pl.Expr]:
    source = pl.col(column)
    return {
        "sum": source.sum(),
        "min": source.min(),
        "max": source.max(),
        "mean": source.mean(),
        "first": source.first(),
        "last": source.last(),
    }


def output_schema(schema: Schema, keys: tuple[str, ...], aggregates: Iterable[Aggregate]) -> dict[str, pl.DataType]:
    """Return the columns of a window's results."""
    bounds = pl.Datetime("ms", "UTC")
    output = {key: schema[key] for key in keys} | dict.fromkeys(_WINDOW_COLUMNS, bounds)
    return output | {agg.name: _result_type(agg, schema) for agg in aggregates}


def _result_type(agg: Aggregate, schema: Schema) -> pl.DataType:
    if agg.column is None:
        return pl.Int64()
    dtype = schema[agg.column]
    if agg.kind == "mean":
        return pl.Float64()
    if agg.kind == "sum":
        return _sum_type(dtype)
    return dtype


def _sum_type(dtype: pl.DataType) -> pl.DataType:
    if dtype.is_unsigned_integer():
        return pl.UInt64()
    if dtype.is_integer():
        return pl.Int128() if dtype == pl.Int128 else pl.Int64()
    if isinstance(dtype, pl.Decimal):
        return pl.Decimal(38, dtype.scale)
    return dtype


@dataclass(frozen=True)
class Partials:
    """Everything derived from a window's aggregates: how to make, combine and read partial columns."""

    expressions: tuple[pl.Expr, ...]
    schema: Mapping[str, pl.DataType]
    merges: Mapping[str, Merge]
    results: tuple[pl.Expr, ...]
    shown: Mapping[str, list[str]]
    """How SQL shows each result: ["col", partial] or ["div", sum, count]."""


def partials_of(aggregates: Iterable[Aggregate], schema: Schema) -> Partials:
    """Return the partial columns for aggregates over an input of `schema`."""
    made: dict[str, tuple[pl.Expr, pl.DataType, Merge]] = {ROWS: (pl.len().cast(pl.Int64), pl.Int64(), Merge("add"))}
    results: list[pl.Expr] = []
    shown: dict[str, list[str]] = {}
    for agg in aggregates:
        new, result, how = _partial(agg, schema)
        made |= new
        results.append(result.alias(agg.name))
        shown[agg.name] = how
    return Partials(
        tuple(expression.alias(name) for name, (expression, _, _) in made.items()),
        {name: dtype for name, (_, dtype, _) in made.items()},
        {name: merge for name, (_, _, merge) in made.items()},
        tuple(results),
        shown,
    )


_Made = tuple[dict[str, tuple[pl.Expr, pl.DataType, Merge]], pl.Expr, list[str]]


def _partial(agg: Aggregate, schema: Schema) -> _Made:
    if agg.column is None:
        return {}, pl.col(ROWS), ["col", ROWS]
    return _BY_KIND[agg.kind](agg.column, schema[agg.column], agg.kind)


def _plain(column: str, dtype: pl.DataType, kind: str) -> _Made:
    name = f"__{kind}_{column}"
    source = pl.col(column)
    expression = source.min() if kind == "min" else source.max()
    return {name: (expression, dtype, Merge(kind))}, pl.col(name), ["col", name]


def _sum(column: str, dtype: pl.DataType, _kind: str) -> _Made:
    name, result = f"__sum_{column}", _sum_type(dtype)
    return {name: (pl.col(column).cast(result).sum(), result, Merge("add"))}, pl.col(name), ["col", name]


def _mean(column: str, _dtype: pl.DataType, _kind: str) -> _Made:
    total, number = f"__meansum_{column}", f"__n_{column}"
    source = pl.col(column)
    made: dict[str, tuple[pl.Expr, pl.DataType, Merge]] = {
        total: (source.cast(pl.Float64).sum(), pl.Float64(), Merge("add")),
        number: (source.count().cast(pl.Int64), pl.Int64(), Merge("add")),
    }
    quotient: pl.Expr = pl.when(pl.col(number) > 0).then(pl.col(total) / pl.col(number))
    return made, quotient, ["div", total, number]


def _ordered(column: str, dtype: pl.DataType, kind: str) -> _Made:
    name = f"__{kind}_{column}"
    types: dict[str, pl.DataType] = {TIME: pl.Int64(), SPLIT: pl.Int32(), OFFSET: pl.Int64()}
    order = {source: f"{source}:{kind}_{column}" for source in types}
    merge = Merge(kind, tuple(order.values()))

    def pick(source: str) -> pl.Expr:
        return pl.col(source).first() if kind == "first" else pl.col(source).last()

    # The order columns win and lose together with the value they belong to.
    made = {name: (pick(column), dtype, merge)}
    made |= {order[source]: (pick(source).cast(types[source]), types[source], merge) for source in types}
    return made, pl.col(name), ["col", name]


_BY_KIND: Final[dict[str, Callable[[str, pl.DataType, str], _Made]]] = {
    "sum": _sum,
    "min": _plain,
    "max": _plain,
    "mean": _mean,
    "first": _ordered,
    "last": _ordered,
}
