"""The expressions of a filter, select or with_columns as a function of a query that keeps the hidden columns."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import polars.selectors as cs

from ..graph import Schema
from ..ids import HIDDEN_PREFIX

_KEEP = f"{HIDDEN_PREFIX}keep"
_HIDDEN = cs.starts_with(HIDDEN_PREFIX)


class Selection:
    """Expressions of one operator (`filter`, `select` or `with_columns`) over a stream of `schema`.

    `reads` names the columns that they look at; None where selectors may look at all of them.
    """

    def __init__(self, kind: str, expressions: Sequence[pl.Expr], schema: Schema) -> None:
        self._kind = kind
        self._expressions = [e for e in expressions if not _matches_nothing(e, schema)]
        self._visible = list(schema)
        # Selectors such as pl.all() would find hidden columns, too, so they get a frame that has none.
        self._apart = any(e.meta.has_multiple_outputs() for e in self._expressions)
        roots = (name for e in self._expressions for name in e.meta.root_names())
        self.reads: frozenset[str] | None = None if self._apart else frozenset(roots)

    def __call__(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Return the query with the operator behind it."""
        if self._apart:
            return self._beside_hidden(frame)
        if self._kind == "select":
            return frame.select(*self._expressions, _HIDDEN)
        return frame.filter(*self._expressions) if self._kind == "filter" else frame.with_columns(*self._expressions)

    def _beside_hidden(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        visible = frame.select(self._visible)
        if self._kind == "filter":
            mask = visible.select(pl.all_horizontal(*self._expressions).alias(_KEEP))
            return pl.concat([frame, mask], how="horizontal").filter(pl.col(_KEEP)).drop(_KEEP)
        hidden = frame.select(_HIDDEN)
        change = visible.select if self._kind == "select" else visible.with_columns
        return pl.concat([change(*self._expressions), hidden], how="horizontal")


def _matches_nothing(expression: pl.Expr, schema: Schema) -> bool:
    if not expression.meta.has_multiple_outputs():
        return False
    try:
        return not pl.LazyFrame(schema=dict(schema)).select(expression).collect_schema()
    except pl.exceptions.PolarsError:
        return False  # the caller derives the schema next and reports it
