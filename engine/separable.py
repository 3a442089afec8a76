"""Tells whether an expression may run batch by batch: each output row has to depend on its own input row alone.

`Expr.meta.is_row_separable()` is not enough: Polars 2.1 says yes to `a - a.mean()`, to `a.filter(b)` and to
`a.is_in(b)`, and does not answer for Python functions. The physical plan of the streaming engine does know: what it
runs row by row appears as plain `select` nodes. Only where the plan has a node for a function over whole columns (such
as `replace`) the answer of `meta` is taken, for the expression and everything inside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import polars as pl

from .errors import JobInvalidError
from .graph import Schema
from .ids import TIME
from .places import where

_ROW_BY_ROW: Final = frozenset({"select", "in-memory-source"})
_WHOLE_COLUMNS: Final = frozenset({"columnar-function", "zip-broadcast", "multiplexer", "input-independent-select"})
_LABEL: Final = re.compile(r'^\d+ \[label="([a-z-]+)', re.MULTILINE)
_FUNCTION: Final = re.compile(r"\.(\w+)\(")

_WINDOW: Final = "aggregate with key_by(...).window(...).agg(...), which keeps its state across batches"
_HINTS: Final = (
    (("over",), "use key_by(...).window(...).agg(...) instead of over(...)"),
    (("python_udf",), "use .map_batches(fn, schema) of the stream, or say is_elementwise=True"),
    (("filter", "drop_nulls", "drop_nans", "slice"), "drop rows with .filter(...) of the stream"),
    (("explode", "flatten"), "use .explode(...) of the stream"),
    (("fold", "reduce", "cum_fold", "cum_reduce"), "use sum_horizontal(...), max_horizontal(...) or plain operators"),
    (("is_in",), "give is_in(...) a list of values, or a list column"),
    (("strptime",), 'give the format, e.g. str.to_datetime("%Y-%m-%dT%H:%M:%S")'),
    (("shift", "diff", "pct_change", "forward_fill", "backward_fill", "fill_null_with_strategy", "interpolate"),
     "a stateless operator cannot see a row's neighbours, because they may be in another batch"),
    (("rank", "sort", "sort_by", "arg_sort", "reverse", "unique", "is_unique", "is_duplicated", "int_range"),
     "the rows of a batch are not the whole stream; " + _WINDOW),
)  # fmt: skip


def check_separable(operator: str, expressions: Iterable[pl.Expr], schema: Schema) -> bool:
    """Raise `JobInvalidError` for an expression whose result depends on which rows happen to share a batch.

    Returns False if Polars refuses an expression for another reason.
    """
    frame = pl.LazyFrame(schema={**schema, TIME: pl.Int64()})
    for expression in expressions:
        try:
            if _is_separable(expression, frame):
                continue
        except pl.exceptions.PolarsError:
            return False
        culprit = _innermost(expression, frame)
        inside = "" if culprit is expression else f" in {expression}"
        raise JobInvalidError(
            f"{where(operator)}: {culprit}{inside} gives another result when rows are cut into batches differently",
            hint=_hint(culprit) or _WINDOW,
        )
    return True


def _is_separable(expression: pl.Expr, frame: pl.LazyFrame) -> bool:
    labels = _plan(expression, frame)
    if labels <= _ROW_BY_ROW:
        return True
    return labels <= _ROW_BY_ROW | _WHOLE_COLUMNS and _meta_agrees(expression, frame)


def _plan(expression: pl.Expr, frame: pl.LazyFrame) -> frozenset[str]:
    # Beside a column a constant is no plan of its own. Selectors must not find that column.
    several = expression.meta.has_multiple_outputs()
    query = frame.drop(TIME).select(expression) if several else frame.select(expression, TIME)
    dot = query.show_graph(engine="streaming", plan_stage="physical", raw_output=True, show=False)
    return frozenset(_LABEL.findall(dot or "")) or _WHOLE_COLUMNS


def _meta_agrees(expression: pl.Expr, frame: pl.LazyFrame) -> bool:
    try:
        if not (expression.meta.is_row_separable() and expression.meta.is_length_preserving()):
            return False
        inputs = expression.meta.pop()
    except pl.exceptions.PolarsError:
        return False
    return all(part.meta.is_literal() or _is_separable(part, frame) for part in inputs)


def _innermost(expression: pl.Expr, frame: pl.LazyFrame) -> pl.Expr:
    """Return the smallest part that is to blame, or the first on the way to it that has an alternative."""
    if _hint(expression):
        return expression
    try:
        for part in expression.meta.pop():
            if not part.meta.is_literal() and "element()" not in str(part) and not _is_separable(part, frame):
                return _innermost(part, frame)
    except pl.exceptions.PolarsError:
        pass
    return expression


def _hint(expression: pl.Expr) -> str:
    """Return the alternative to the function that this expression calls last."""
    inside = {name for part in expression.meta.pop() for name in _FUNCTION.findall(str(part))}
    called = set(_FUNCTION.findall(str(expression))) - inside
    return next((hint for names, hint in _HINTS if called & set(names)), "")
