"""Stand-ins for the ends of a job that is only built, and batches with hidden columns for operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import polars as pl
import pytest
import tidegate as tg
from tidegate.engine.errors import JobInvalidError
from tidegate.engine.graph import Graph, MapNode, Node, WindowNode
from tidegate.engine.ids import OFFSET, SPLIT, TIME
from tidegate.engine.operators.stateless import compile_chain

ORDERS: Mapping[str, pl.DataType] = {
    "country": pl.String(),
    "amount": pl.Float64(),
    "items": pl.Int32(),
    "tags": pl.List(pl.String),
    "ts": pl.Int64(),
}


def _never(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a job that is only built opens nothing")


@dataclass(frozen=True)
class BuiltSource:
    """A source of a job that never runs."""

    schema: Mapping[str, pl.DataType] = field(default_factory=lambda: ORDERS)
    seekable: bool = True
    kind: str = "list"
    max_out_of_orderness_ms: int = 0
    idle_after_ms: int | None = None
    discovery_interval_s: float | None = None
    bounded: Callable[..., NoReturn] = _never
    describe: Callable[..., NoReturn] = _never
    open_enumerator: Callable[..., NoReturn] = _never
    open_reader: Callable[..., NoReturn] = _never


@dataclass(frozen=True)
class BuiltSink:
    """A sink of a job that never runs; `refuses` names a column that it cannot write."""

    delivery: str | None = None
    refuses: str | None = None
    kind: str = "list"
    describe: Callable[..., NoReturn] = _never
    prepare: Callable[..., NoReturn] = _never
    open_encoder: Callable[..., NoReturn] = _never
    open_committer: Callable[..., NoReturn] = _never
    open_writer: Callable[..., NoReturn] = _never

    def check(self, schema: Mapping[str, pl.DataType]) -> None:
        """Refuse one column."""
        if self.refuses in schema:
            raise JobInvalidError(f"the list cannot hold column '{self.refuses}'")


def orders(schema: Mapping[str, pl.DataType] | None = None) -> tg.Stream:
    """A stream of orders, or of another schema, in a job of its own."""
    return tg.Job("orders").read(BuiltSource(schema or ORDERS), uid="orders")


def graph_of(stream: tg.Stream) -> Graph:
    """The graph that ends with this stream."""
    stream.write(BuiltSink(), uid="out")
    return stream.upstream.builder.graph("orders")


def node_of(stream: tg.Stream) -> Node:
    """The node that makes this stream."""
    return graph_of(stream).nodes[stream.upstream.index]


def window_of(stream: tg.Stream) -> WindowNode:
    """The window that makes this stream."""
    node = node_of(stream)
    assert isinstance(node, WindowNode)
    return node


def run(stream: tg.Stream, frame: pl.DataFrame) -> pl.DataFrame:
    """What the stateless operators of this stream make of one batch of its source."""
    nodes = [node for node in graph_of(stream).nodes if isinstance(node, MapNode)]
    return compile_chain(nodes)(frame)


def batch(columns: Mapping[str, Sequence[object]], times: Sequence[int] | None = None) -> pl.DataFrame:
    """A batch as sources deliver it: event times (row numbers unless given), split 0, offsets from 0."""
    frame = pl.DataFrame({name: list(values) for name, values in columns.items()}, strict=False)
    rows = range(frame.height)
    return frame.with_columns(
        pl.Series(TIME, list(times if times is not None else rows), pl.Int64),
        pl.Series(SPLIT, [0] * frame.height, pl.Int32),
        pl.Series(OFFSET, list(rows), pl.Int64),
    )


def refused(build: Callable[[], object]) -> str:
    """The message with which building a job is refused."""
    with pytest.raises(JobInvalidError) as caught:
        build()
    return str(caught.value)
