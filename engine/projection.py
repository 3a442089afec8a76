"""Which columns of a source the job uses, so that a decoder need not look at the others."""

from __future__ import annotations

from .graph import Graph, MapNode, SinkNode, UnionNode, WindowNode


def used_columns(graph: Graph, source: int) -> frozenset[str] | None:
    """Return the source's columns that anything downstream reads; None when all may be read.

    A chain is followed until a window or a node that replaces all columns; whatever reaches a sink or a user function
    counts as used.
    """
    schema = graph.nodes[source].schema
    used = _used(graph, source)
    return None if used is None or used >= set(schema) else frozenset(used & set(schema))


def _used(graph: Graph, index: int) -> set[str] | None:
    used: set[str] = set()
    for reader in graph.readers(index):
        node = graph.nodes[reader]
        if isinstance(node, WindowNode):
            used |= {*node.keys, *(a.column for a in node.aggregates if a.column is not None)}
            continue
        if isinstance(node, SinkNode | UnionNode):
            return None
        behind = _through(graph, reader, node) if isinstance(node, MapNode) else None
        if behind is None:
            return None
        used |= behind
    return used


def _through(graph: Graph, index: int, node: MapNode) -> set[str] | None:
    if node.reads is None:
        return None
    if node.replaces:
        return set(node.reads)
    behind = _used(graph, index)
    return None if behind is None else behind | node.reads
