"""The graph of a job while its job file adds nodes: uids are claimed once, and the end result is checked as a whole."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Final

from .errors import JobInvalidError
from .graph import Graph, MapNode, Node, Schema, SinkNode
from .ids import check_uid
from .places import where
from .settings import AT_LEAST_ONCE, EXACTLY_ONCE

_NO_UID: Final = re.compile(r"[^A-Za-z0-9._-]+")
_PROPOSAL_LENGTH_MAX: Final = 56


class GraphBuilder:
    """Nodes so far, the user's line of each, and the uids that are taken."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._places: list[str] = []
        self._uids: dict[str, str] = {}

    def add(self, node: Node) -> Upstream:
        """Append a node and return what its readers need."""
        self._nodes.append(node)
        self._places.append(where(node.kind if isinstance(node, MapNode) else _OPERATORS[type(node).__name__]))
        return Upstream(self, len(self._nodes) - 1, dict(node.schema))

    def claim_uid(self, uid: str | None, what: str, operator: str, proposal: str) -> str:
        """Return `uid` if it can be used and is free. Raises `JobInvalidError` with a uid that could be used."""
        if uid is None:
            raise JobInvalidError(
                f"{where(operator)}: this {what} has no uid, so nothing would tie it to its checkpoints after a change",
                hint=f'add uid="{self._free(proposal)}"',
            )
        check_uid(uid)
        if uid in self._uids:
            raise JobInvalidError(
                f"{where(operator)}: uid '{uid}' is taken by {self._uids[uid]}",
                hint=f'every uid of a job is used once; write uid="{self._free(uid)}"',
            )
        self._uids[uid] = where(operator)
        return uid

    def _free(self, proposal: str) -> str:
        text = _NO_UID.sub("-", proposal)[:_PROPOSAL_LENGTH_MAX]
        numbered = (f"{text}-{number}" for number in itertools.count(2))
        return next(uid for uid in itertools.chain([text], numbered) if uid not in self._uids)

    def graph(self, job: str) -> Graph:
        """Return the graph. Raises `JobInvalidError` if it has no source, or a stream that nobody reads."""
        graph = Graph(tuple(self._nodes))
        if not graph.sources():
            raise JobInvalidError(f"job '{job}' reads no source", hint="begin with job.read(source, uid=...)")
        for index, node in enumerate(graph.nodes):
            if not isinstance(node, SinkNode) and not graph.readers(index):
                raise JobInvalidError(
                    f"{self._places[index]}: nobody reads this stream",
                    hint='end it with .write(sink, uid="out"), or leave it out',
                )
        return graph


@dataclass(frozen=True)
class Upstream:
    """The output of one node: what an operator behind it reads."""

    builder: GraphBuilder
    index: int
    schema: Schema


_OPERATORS: Final = {"SourceNode": "read", "UnionNode": "union", "WindowNode": "agg", "SinkNode": "write"}


def check_delivery(graph: Graph, delivery: str) -> None:
    """Refuse sources that cannot seek if a sink promises exactly-once; `delivery` is the job's default."""
    exact = [uid for uid, node in graph.sinks().items() if (node.sink.delivery or delivery) != AT_LEAST_ONCE]
    for uid, node in graph.sources().items():
        if exact and not node.source.seekable:
            raise JobInvalidError(
                f"source '{uid}' ({node.source.kind}) cannot go back to an earlier record, "
                f"so sink '{exact[0]}' cannot be {EXACTLY_ONCE}",
                hint=f'use a source that can seek, or delivery="{AT_LEAST_ONCE}"',
            )
