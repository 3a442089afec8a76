"""The logical dataflow graph that a job builds: immutable nodes with derived schemas, in the order they were added.

Nodes refer to their inputs by position in `Graph.nodes`, inputs always come before their readers, so the order is
topological.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import polars as pl

from .ports.sink import Sink
from .ports.source import Source

Schema = Mapping[str, pl.DataType]
"""Visible columns in order; hidden columns are never part of it."""


@dataclass(frozen=True)
class SourceNode:
    """Reads a source."""

    uid: str
    source: Source
    schema: Schema

    inputs: tuple[int, ...] = ()


@dataclass(frozen=True)
class MapNode:
    """A stateless operator. Exactly one of `lazy` and `eager` is set.

    `lazy` maps a LazyFrame to a LazyFrame and keeps the hidden columns; neighbours are fused into one query. `eager` is
    a user function DataFrame -> DataFrame over all columns including hidden ones (the builder wraps the user's function
    so that hidden columns survive or are refilled).
    """

    kind: str
    label: str
    inputs: tuple[int, ...]
    schema: Schema
    lazy: Callable[[pl.LazyFrame], pl.LazyFrame] | None = None
    eager: Callable[[pl.DataFrame], pl.DataFrame] | None = None
    reads: frozenset[str] | None = None
    """Columns that it looks at; None when that is not known."""
    replaces: bool = False
    """Whether its output has only columns that it computed from `reads`."""


@dataclass(frozen=True)
class UnionNode:
    """Joins streams of one schema; no order is promised between its inputs."""

    inputs: tuple[int, ...]
    schema: Schema


@dataclass(frozen=True)
class Tumbling:
    """Windows of fixed size (ms) that follow each other without gaps, aligned to the Unix epoch plus `offset_ms`."""

    size_ms: int
    offset_ms: int = 0


@dataclass(frozen=True)
class Aggregate:
    """One aggregate of a window: `kind` is count, sum, min, max, mean, first or last; `name` the output column.

    `column` is the input column, None for count.
    """

    kind: str
    name: str
    column: str | None


@dataclass(frozen=True)
class WindowNode:
    """A keyed event-time window with aggregates; its input is repartitioned by key group."""

    uid: str
    inputs: tuple[int, ...]
    keys: tuple[str, ...]
    window: Tumbling
    aggregates: tuple[Aggregate, ...]
    input_schema: Schema
    schema: Schema


@dataclass(frozen=True)
class SinkNode:
    """Writes a stream to a sink; has no readers."""

    uid: str
    inputs: tuple[int, ...]
    sink: Sink
    schema: Schema


Node = SourceNode | MapNode | UnionNode | WindowNode | SinkNode


@dataclass(frozen=True)
class Graph:
    """All nodes of a job, inputs before readers."""

    nodes: tuple[Node, ...] = field(default=())

    def readers(self, index: int) -> tuple[int, ...]:
        """Nodes that read the node at `index`, in order."""
        return tuple(i for i, node in enumerate(self.nodes) if index in node.inputs)

    def sources(self) -> dict[str, SourceNode]:
        """Sources by uid."""
        return {node.uid: node for node in self.nodes if isinstance(node, SourceNode)}

    def sinks(self) -> dict[str, SinkNode]:
        """Sinks by uid."""
        return {node.uid: node for node in self.nodes if isinstance(node, SinkNode)}

    def windows(self) -> dict[str, WindowNode]:
        """Windows by uid."""
        return {node.uid: node for node in self.nodes if isinstance(node, WindowNode)}

    def needs_order(self) -> bool:
        """Whether an aggregate needs the hidden columns split and offset."""
        return any(a.kind in {"first", "last"} for node in self.windows().values() for a in node.aggregates)
