"""The job: a named dataflow that a job file builds and `run` starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import polars as pl

from .errors import JobInvalidError
from .expressions import where
from .graph import Graph, Node, Schema, SinkNode, SourceNode
from .ids import HIDDEN_PREFIX, KEY_GROUPS_DEFAULT, check_job_id, check_uid
from .options import Layer, check_names, settings_for
from .ports.source import Source
from .settings import AT_LEAST_ONCE, EXACTLY_ONCE
from .stream import Stream

if TYPE_CHECKING:
    from .launch import Result

KEY_GROUPS_MAX = 32_768


class Job:
    """A dataflow with a name. Options given here are defaults; every other layer (see `tidegate run --help`) wins.

    `name` is the job id: 1 to 64 letters, digits, dots, underscores or dashes. `key_groups` is fixed for the life of a
    job and bounds its parallelism.
    """

    def __init__(self, name: str, *, key_groups: int = KEY_GROUPS_DEFAULT, **options: object) -> None:
        self.name = check_job_id(name)
        if not isinstance(key_groups, int) or not 1 <= key_groups <= KEY_GROUPS_MAX:
            raise JobInvalidError(f"key_groups is {key_groups!r}; it must be a number from 1 to {KEY_GROUPS_MAX}")
        self.key_groups = key_groups
        self.options: Mapping[str, object] = dict(options)
        check_names(Layer("in Job(...)", self.options))
        self._nodes: list[Node] = []
        self._places: list[str] = []
        self._uids: dict[str, str] = {}

    def read(self, source: Source, *, uid: str | None = None) -> Stream:
        """Read a source."""
        if not isinstance(source, Source):
            raise JobInvalidError(f"{where('read')}: {source!r} is not a source", hint="give it a KafkaSource or FileSource")
        name = self._claim_uid(uid, "source", "read", f"{source.kind}-in")
        schema: dict[str, pl.DataType] = dict(source.schema)
        for column in schema:
            if column.startswith(HIDDEN_PREFIX):
                raise JobInvalidError(
                    f"{where('read')}: column '{column}' begins with '{HIDDEN_PREFIX}', which is kept for the engine"
                )
        return self._add(SourceNode(name, source, schema), schema)

    def _add(self, node: Node, schema: Schema) -> Stream:
        self._nodes.append(node)
        self._places.append(where(_name(node)))
        return Stream(self, len(self._nodes) - 1, schema)

    def _claim_uid(self, uid: str | None, what: str, operator: str, proposal: str) -> str:
        if uid is None:
            free = next(p for p in (proposal, *(f"{proposal}-{n}" for n in range(2, 10_000))) if p not in self._uids)
            raise JobInvalidError(
                f"{where(operator)}: this {what} has no uid, so nothing would tie it to its checkpoints after a change",
                hint=f'add uid="{free}"',
            )
        check_uid(uid)
        if uid in self._uids:
            raise JobInvalidError(
                f"{where(operator)}: uid '{uid}' is taken by {self._uids[uid]}", hint="every uid of a job is used once"
            )
        self._uids[uid] = where(operator)
        return uid

    def graph(self) -> Graph:
        """Return the checked graph. Raises `JobInvalidError` for a job that could not run."""
        graph = Graph(tuple(self._nodes))
        if not graph.sources():
            raise JobInvalidError(f"job '{self.name}' reads no source", hint="begin with job.read(source, uid=...)")
        for index, node in enumerate(graph.nodes):
            if not isinstance(node, SinkNode) and not graph.readers(index):
                raise JobInvalidError(
                    f"{self._places[index]}: nobody reads this stream",
                    hint='end it with .write(sink, uid="out"), or leave it out',
                )
        return graph

    def check_delivery(self, delivery: str) -> None:
        """Refuse sources that cannot seek when a sink promises exactly-once."""
        graph = self.graph()
        exact = [uid for uid, node in graph.sinks().items() if (node.sink.delivery or delivery) != AT_LEAST_ONCE]
        for uid, node in graph.sources().items():
            if exact and not node.source.seekable:
                raise JobInvalidError(
                    f"source '{uid}' cannot go back to an earlier record, so sink '{exact[0]}' cannot be {EXACTLY_ONCE}",
                    hint=f'use a source that can seek, or delivery="{AT_LEAST_ONCE}"',
                )

    def run(self, **options: object) -> Result:
        """Run the job in this process and worker processes of its own, until it finishes or is stopped.

        Options are those of `tidegate run`. Raises what ended the job; see `tidegate.engine.launch.run_job`.
        """
        from .launch import run_job  # noqa: PLC0415 (a job file that is only loaded needs none of it)

        return run_job(self, settings_for(self.options, options))

    def __repr__(self) -> str:
        return f"Job({self.name!r})"


def _name(node: Node) -> str:
    return getattr(node, "kind", None) or type(node).__name__.removesuffix("Node").lower()
