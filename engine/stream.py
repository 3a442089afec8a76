"""Streams: the immutable handles with which a job file builds its graph.

A stream may be read by several branches. Every method checks what it is given at once, so that a mistake is reported at
its own line, and returns a new stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NoReturn

import polars as pl

from .errors import JobInvalidError
from .expressions import check_names, check_separable, derive, describe, unknown_column, where
from .graph import MapNode, Schema, SinkNode, Tumbling, UnionNode, WindowNode
from .ids import HIDDEN, HIDDEN_PREFIX
from .operators.aggregates import Agg, output_schema, resolve
from .operators.user_function import wrap_function

if TYPE_CHECKING:
    from .job import Job
    from .ports.sink import Sink

IntoExpr = pl.Expr | str


def _expressions(operator: str, positional: Iterable[IntoExpr], named: Mapping[str, object]) -> list[pl.Expr]:
    found = [pl.col(e) if isinstance(e, str) else e for e in _flat(positional)]
    found += [(e if isinstance(e, pl.Expr) else pl.lit(e)).alias(name) for name, e in named.items()]
    for expression in found:
        if not isinstance(expression, pl.Expr):
            raise JobInvalidError(
                f"{where(operator)}: {expression!r} is not an expression", hint='write pl.col("name"), or a column name'
            )
    check_names(operator, found)
    check_separable(operator, found)
    return found


def _flat(items: Iterable[object]) -> Iterable[pl.Expr]:
    for item in items:
        if isinstance(item, list | tuple):
            yield from _flat(item)
        else:
            yield item  # type: ignore[misc]  # checked by the caller


class Stream:
    """Rows of one schema. Order is kept per split of a source (and per key after `key_by`), not between them."""

    def __init__(self, job: Job, index: int, schema: Schema) -> None:
        self._job = job
        self._index = index
        self._schema = dict(schema)

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Columns and dtypes, in order."""
        return dict(self._schema)

    def _lazy(
        self,
        kind: str,
        function: Callable[[pl.LazyFrame], pl.LazyFrame],
        reads: Iterable[str] | None,
        *,
        replaces: bool = False,
    ) -> Stream:
        schema = derive(kind, self._schema, function)
        known = None if reads is None else frozenset(reads)
        node = MapNode(kind, where(kind), (self._index,), schema, lazy=function, reads=known, replaces=replaces)
        return self._job._add(node, schema)

    def filter(self, *predicates: pl.Expr) -> Stream:
        """Keep the rows for which all predicates are true (null counts as false)."""
        found = _expressions("filter", predicates, {})
        return self._lazy("filter", lambda frame: frame.filter(*found), _reads(found))

    def select(self, *columns: IntoExpr, **named: object) -> Stream:
        """Keep and compute just these columns."""
        found = _expressions("select", columns, named)
        return self._lazy(
            "select", lambda frame: frame.select(*found, *_hidden(frame)), _reads(found), replaces=True
        )

    def with_columns(self, *columns: IntoExpr, **named: object) -> Stream:
        """Add or replace columns."""
        found = _expressions("with_columns", columns, named)
        return self._lazy("with_columns", lambda frame: frame.with_columns(*found), _reads(found))

    def drop(self, *columns: str) -> Stream:
        """Leave columns out."""
        names = [str(name) for name in _flat(columns)]
        for name in names:
            self._known("drop", name)
        return self._lazy("drop", lambda frame: frame.drop(names, strict=False), ())

    def rename(self, mapping: Mapping[str, str]) -> Stream:
        """Rename columns, old name to new name."""
        for old, new in mapping.items():
            self._known("rename", old)
            if new.startswith(HIDDEN_PREFIX):
                raise JobInvalidError(f"{where('rename')}: column '{new}' begins with '{HIDDEN_PREFIX}', kept for the engine")
        names = dict(mapping)
        return self._lazy("rename", lambda frame: frame.rename(names), None)

    def explode(self, *columns: str) -> Stream:
        """Make one row of every element of a list column; the other columns repeat (flat-map)."""
        names = [str(name) for name in _flat(columns)]
        for name in names:
            self._known("explode", name)
        return self._lazy("explode", lambda frame: frame.explode(names), names)

    def map_batches(
        self, function: Callable[[pl.DataFrame], pl.DataFrame], schema: Mapping[str, pl.DataType | type[pl.DataType]]
    ) -> Stream:
        """Run a plain function over batches of rows; `schema` declares the columns it returns.

        The function gets a frame with the stream's columns, and the event time (Int64, ms) as `__time`. If it returns
        another number of rows, it has to return `__time` too, because nothing else tells when the new rows happened.
        It must look at one row at a time: where a batch ends is not defined.
        """
        if not callable(function):
            raise JobInvalidError(f"{where('map_batches')}: {function!r} is not a function")
        declared = {name: dtype() if isinstance(dtype, type) else dtype for name, dtype in dict(schema).items()}
        for name in declared:
            if name.startswith(HIDDEN_PREFIX):
                raise JobInvalidError(f"{where('map_batches')}: column '{name}' begins with '{HIDDEN_PREFIX}', kept for the engine")
        label = where(f"map_batches({getattr(function, '__name__', 'function')})")
        eager = wrap_function(label, function, self._schema, declared)
        return self._job._add(MapNode("map_batches", label, (self._index,), declared, eager=eager), declared)

    def map(self, function: object) -> NoReturn:
        """Refuse a function per row, and say what to use."""
        raise JobInvalidError(
            f"{where('map')}: a Python function per row ({function!r}) would cost a hundred times what an expression costs",
            hint="use with_columns(...) or select(...) with expressions, or map_batches(fn, schema) for a whole frame",
        )

    def union(self, *others: Stream) -> Stream:
        """Join streams of the same schema; no order is promised between them."""
        for other in others:
            if other._job is not self._job:
                raise JobInvalidError(f"{where('union')}: the streams belong to different jobs")
            if other._schema != self._schema or list(other._schema) != list(self._schema):
                raise JobInvalidError(
                    f"{where('union')}: schemas differ: {describe(self._schema)} and {describe(other._schema)}",
                    hint="bring both to the same columns, order and dtypes with select(...)",
                )
        inputs = (self._index, *(other._index for other in others))
        return self._job._add(UnionNode(inputs, self._schema), self._schema)

    def key_by(self, *columns: str) -> KeyedStream:
        """Place rows by key: all rows of one key are processed by one subtask, in order."""
        names = tuple(str(name) for name in _flat(columns))
        if not names:
            raise JobInvalidError(f"{where('key_by')}: no column given", hint='write key_by("column")')
        for name in names:
            self._known("key_by", name)
        return KeyedStream(self, names)

    def write(self, sink: Sink, *, uid: str | None = None) -> None:
        """Write the stream to a sink."""
        name = self._job._claim_uid(uid, "sink", "write", f"{getattr(sink, 'kind', 'sink')}-out")
        check = getattr(sink, "check", None)
        if check is None:
            raise JobInvalidError(f"{where('write')}: {sink!r} is not a sink", hint="give it a KafkaSink or FilesSink")
        check(self._schema)
        self._job._add(SinkNode(name, (self._index,), sink, self._schema), {})

    def _known(self, operator: str, name: str) -> None:
        if name not in self._schema:
            raise unknown_column(operator, name, self._schema)


class KeyedStream:
    """A stream placed by key; needs a window to aggregate."""

    def __init__(self, stream: Stream, keys: tuple[str, ...]) -> None:
        self._stream = stream
        self._keys = keys

    def window(self, window: Tumbling) -> WindowedStream:
        """Cut each key's rows into event-time windows."""
        if not isinstance(window, Tumbling):
            raise JobInvalidError(f"{where('window')}: {window!r} is not a window", hint='write window(tg.tumbling("10s"))')
        return WindowedStream(self._stream, self._keys, window)


class WindowedStream:
    """Windows per key, to be aggregated."""

    def __init__(self, stream: Stream, keys: tuple[str, ...], window: Tumbling) -> None:
        self._stream = stream
        self._keys = keys
        self._window = window

    def agg(self, *aggregates: Agg | pl.Expr, uid: str | None = None, **named: Agg | pl.Expr) -> Stream:
        """Aggregate each window; one row per key and window when the watermark passes the window's end.

        Rows have the keys, `window_start` and `window_end` (Datetime ms, UTC; the end is exclusive) and the aggregates;
        their event time is the window's end less 1 ms. Rows that arrive after their window closed are dropped and
        counted as late. A column called `uid` can be made with a positional aggregate and `.alias("uid")`.
        """
        stream = self._stream
        job = stream._job
        name = job._claim_uid(uid, "window", "agg", "-".join([*self._keys, "window"]))
        resolved = resolve(where("agg"), aggregates, named, stream._schema, self._keys)
        schema = output_schema(stream._schema, self._keys, resolved)
        node = WindowNode(name, (stream._index,), self._keys, self._window, resolved, stream._schema, schema)
        return job._add(node, schema)


def _hidden(frame: pl.LazyFrame) -> list[str]:
    names = frame.collect_schema().names()
    return [name for name in HIDDEN if name in names]


def _reads(expressions: Iterable[pl.Expr]) -> set[str] | None:
    names: set[str] = set()
    for expression in expressions:
        try:
            if expression.meta.has_multiple_outputs() or expression.meta.is_regex_projection():
                return None
            names.update(expression.meta.root_names())
        except pl.exceptions.PolarsError:
            return None
    return names
