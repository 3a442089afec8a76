"""Streams: the immutable handles with which a job file builds its graph.

A stream may be read by several branches. Every method checks what it is given at once, so that a mistake is reported at
its own line, and returns a new stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NoReturn

import polars as pl

from .building import Upstream
from .errors import JobInvalidError
from .expressions import (
    IntoSchema,
    check_name,
    check_names,
    declared_schema,
    derive,
    describe,
    difference,
    unknown_column,
)
from .graph import MapNode, SinkNode, Tumbling, UnionNode, WindowNode
from .operators.aggregates import Agg, output_schema, resolve
from .operators.selection import Selection
from .operators.user_function import wrap_function
from .places import where
from .ports.sink import Sink
from .separable import check_separable

IntoExpr = pl.Expr | str
Rows = Callable[[pl.DataFrame], pl.DataFrame]


def _expressions(operator: str, positional: Iterable[object], named: Mapping[str, object]) -> list[pl.Expr]:
    found = [pl.col(e) if isinstance(e, str) else e for e in _flat(positional)]
    found += [(e if isinstance(e, pl.Expr) else pl.lit(e)).alias(name) for name, e in named.items()]
    expressions: list[pl.Expr] = []
    for item in found:
        if not isinstance(item, pl.Expr):
            raise JobInvalidError(
                f"{where(operator)}: {item!r} is not an expression", hint='write pl.col("name"), or a column name'
            )
        expressions.append(item)
    if not expressions:
        raise JobInvalidError(f"{where(operator)}: no expression given", hint='write pl.col("name"), or a column name')
    check_names(operator, expressions)
    return expressions


def _flat(items: Iterable[object]) -> Iterable[object]:
    for item in items:
        if isinstance(item, list | tuple):
            yield from _flat(item)
        else:
            yield item


class Stream:
    """Rows of one schema. Order is kept per split of a source (and per key after `key_by`), not between them."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self._schema = upstream.schema

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Columns and dtypes, in order."""
        return dict(self._schema)

    @property
    def _inputs(self) -> tuple[int, ...]:
        return (self.upstream.index,)

    def _add(self, node: MapNode | UnionNode) -> Stream:
        return Stream(self.upstream.builder.add(node))

    def _lazy(self, kind: str, function: Callable[[pl.LazyFrame], pl.LazyFrame], reads: Iterable[str] | None) -> Stream:
        schema = derive(kind, self._schema, function)
        known = None if reads is None else frozenset(reads)
        return self._add(MapNode(kind, where(kind), self._inputs, schema, lazy=function, reads=known))

    def _selected(self, kind: str, expressions: list[pl.Expr]) -> Stream:
        selection = Selection(kind, expressions, self._schema)
        checked = check_separable(kind, expressions, self._schema)
        schema = derive(kind, self._schema, selection)
        if not checked:
            raise JobInvalidError(
                f"{where(kind)}: Polars cannot plan {', '.join(map(str, expressions))}",
                hint="write it with other expressions, or as map_batches(fn, schema)",
            )
        label, replaces = where(kind), kind == "select"
        return self._add(
            MapNode(kind, label, self._inputs, schema, lazy=selection, reads=selection.reads, replaces=replaces)
        )

    def filter(self, *predicates: pl.Expr | Iterable[pl.Expr]) -> Stream:
        """Keep the rows for which all predicates are true (null counts as false)."""
        return self._selected("filter", _expressions("filter", predicates, {}))

    def select(self, *columns: IntoExpr | Iterable[IntoExpr], **named: object) -> Stream:
        """Keep and compute just these columns."""
        return self._selected("select", _expressions("select", columns, named))

    def with_columns(self, *columns: IntoExpr | Iterable[IntoExpr], **named: object) -> Stream:
        """Add or replace columns."""
        return self._selected("with_columns", _expressions("with_columns", columns, named))

    def drop(self, *columns: str | Iterable[str]) -> Stream:
        """Leave columns out."""
        names = self._names("drop", columns)
        return self._lazy("drop", lambda frame: frame.drop(names, strict=False), ())

    def rename(self, mapping: Mapping[str, str]) -> Stream:
        """Rename columns, old name to new name."""
        names = dict(mapping)
        self._names("rename", [list(names)])
        for name in names.values():
            check_name("rename", name)
        return self._lazy("rename", lambda frame: frame.rename(names), None)

    def explode(self, *columns: str | Iterable[str]) -> Stream:
        """Make one row of every element of a list column; the other columns repeat (flat-map).

        An empty list makes no row, a null makes one row with null. Several columns are exploded side by side and have
        to have lists of equal length.
        """
        names = self._names("explode", columns)
        for name in names:
            if not isinstance(self._schema[name], pl.List | pl.Array):
                raise JobInvalidError(
                    f"{where('explode')}: column '{name}' ({self._schema[name]}) is no list",
                    hint='make one first, e.g. with_columns(pl.col("text").str.split(" "))',
                )
        return self._lazy("explode", lambda frame: frame.explode(names), names)

    def map_batches(self, function: Rows, schema: IntoSchema, *, event_time: bool = False) -> Stream:
        """Run a plain function DataFrame -> DataFrame over batches; `schema` declares the columns it returns.

        The function gets the stream's columns and returns as many rows, in the same order. It must treat each row by
        itself: where a batch ends is not defined, and after a failure it is somewhere else.

        With `event_time=True` it also gets the column `__time` (event time, Int64, ms since the Unix epoch), has to
        return it, and may return any number of rows. An event time before those that other rows of the batch had may
        be late for a window.
        """
        if not callable(function):
            raise JobInvalidError(
                f"{where('map_batches')}: {function!r} is not a function", hint="write map_batches(function, schema)"
            )
        declared = declared_schema("map_batches", schema)
        label = where(f"map_batches({getattr(function, '__name__', 'function')})")
        eager = wrap_function(label, function, self._schema, declared, event_time=event_time)
        return self._add(MapNode("map_batches", label, self._inputs, declared, eager=eager))

    def map(self, function: object) -> NoReturn:
        """Refuse a function per row, and say what to use."""
        raise JobInvalidError(
            f"{where('map')}: calling {function!r} for every row would cost a hundred times what an expression costs",
            hint="use with_columns(...) or select(...) with expressions, or map_batches(fn, schema) for a whole frame",
        )

    def union(self, *others: Stream) -> Stream:
        """Join streams of the same schema; no order is promised between them."""
        for other in others:
            if not isinstance(other, Stream):
                raise JobInvalidError(f"{where('union')}: {other!r} is not a stream", hint="write a.union(b)")
            if other.upstream.builder is not self.upstream.builder:
                raise JobInvalidError(
                    f"{where('union')}: the streams belong to different jobs", hint="read all sources with one job"
                )
            if list(other.schema.items()) != list(self.schema.items()):
                raise JobInvalidError(
                    f"{where('union')}: schemas differ: {difference(self._schema, other.schema)}",
                    hint="bring both to the same columns, order and dtypes with select(...); "
                    f"the first has {describe(self._schema)}",
                )
        inputs = (self.upstream.index, *(other.upstream.index for other in others))
        return self._add(UnionNode(inputs, self._schema))

    def key_by(self, *columns: str | Iterable[str]) -> KeyedStream:
        """Place rows by key: all rows of one key are processed by one subtask, in order. Null is a key, too."""
        names = self._names("key_by", columns)
        for name in names:
            if self._schema[name].is_nested() or self._schema[name] == pl.Object:
                raise JobInvalidError(
                    f"{where('key_by')}: column '{name}' ({self._schema[name]}) cannot be a key",
                    hint="use its fields as columns of their own",
                )
        return KeyedStream(self.upstream, tuple(names))

    def write(self, sink: Sink, *, uid: str | None = None) -> None:
        """Write the stream to a sink. Raises what the sink has against the stream's schema."""
        if not isinstance(sink, Sink):
            raise JobInvalidError(f"{where('write')}: {sink!r} is not a sink", hint="give it a KafkaSink or FilesSink")
        name = self.upstream.builder.claim_uid(uid, "sink", "write", f"{sink.kind}-out")
        sink.check(self._schema)
        self.upstream.builder.add(SinkNode(name, self._inputs, sink, self._schema))

    def _names(self, operator: str, columns: Iterable[object]) -> list[str]:
        names = list(_flat(columns))
        if not names:
            raise JobInvalidError(f"{where(operator)}: no column given", hint=f'write {operator}("column")')
        for name in names:
            if not isinstance(name, str):
                raise JobInvalidError(f"{where(operator)}: {name!r} is no column name", hint="give names as strings")
            if name not in self._schema:
                raise unknown_column(operator, name, self._schema)
        return [str(name) for name in dict.fromkeys(names)]


class KeyedStream:
    """A stream placed by key; needs a window to aggregate."""

    def __init__(self, upstream: Upstream, keys: tuple[str, ...]) -> None:
        self._upstream = upstream
        self._keys = keys

    def window(self, window: Tumbling) -> WindowedStream:
        """Cut each key's rows into event-time windows."""
        if not isinstance(window, Tumbling):
            raise JobInvalidError(
                f"{where('window')}: {window!r} is not a window", hint='write window(tg.tumbling("10s"))'
            )
        return WindowedStream(self._upstream, self._keys, window)


class WindowedStream:
    """Windows per key, to be aggregated."""

    def __init__(self, upstream: Upstream, keys: tuple[str, ...], window: Tumbling) -> None:
        self._upstream = upstream
        self._keys = keys
        self._window = window

    def agg(self, *aggregates: Agg | pl.Expr, uid: str | None = None, **named: Agg | pl.Expr) -> Stream:
        """Aggregate each window; one row per key and window when the watermark passes the window's end.

        Rows have the keys, `window_start` and `window_end` (Datetime ms, UTC; the end is exclusive) and the aggregates;
        their event time is the window's end less 1 ms. Rows that arrive after their window closed are dropped and
        counted as late. A column called `uid` can be made with a positional aggregate and `.alias("uid")`.
        """
        builder, index, schema = self._upstream.builder, self._upstream.index, self._upstream.schema
        name = builder.claim_uid(uid, "window", "agg", "-".join([*self._keys, "window"]))
        resolved = resolve("agg", aggregates, named, schema, self._keys)
        output = output_schema(schema, self._keys, resolved)
        return Stream(builder.add(WindowNode(name, (index,), self._keys, self._window, resolved, schema, output)))
