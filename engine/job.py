"""The job: a named dataflow that a job file builds and `run` starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from .building import GraphBuilder, check_delivery
from .errors import JobInvalidError
from .expressions import check_name
from .graph import Graph, SourceNode
from .ids import KEY_GROUPS_DEFAULT, check_job_id
from .options import Layer, check_names, settings_for
from .places import where
from .ports.source import Source
from .stream import Stream

if TYPE_CHECKING:
    from .launch import Result

KEY_GROUPS_MAX: Final = 32_768


class Job:
    """A dataflow with a name. Options given here are defaults; every other layer (see `tidegate run --help`) wins.

    `name` is the job id: 1 to 64 letters, digits, dots, underscores or dashes. `key_groups` is fixed for the life of a
    job and bounds its parallelism.
    """

    def __init__(self, name: str, *, key_groups: int = KEY_GROUPS_DEFAULT, **options: object) -> None:
        self.name = check_job_id(name)
        if type(key_groups) is not int or not 1 <= key_groups <= KEY_GROUPS_MAX:
            raise JobInvalidError(
                f"{where('Job')}: key_groups is {key_groups!r}", hint=f"give a number from 1 to {KEY_GROUPS_MAX}"
            )
        self.key_groups = key_groups
        self.options: Mapping[str, object] = dict(options)
        check_names(Layer("in Job(...)", self.options))
        self._builder = GraphBuilder()

    def read(self, source: Source, *, uid: str | None = None) -> Stream:
        """Read a source. `uid` ties it to its offsets in checkpoints."""
        if not isinstance(source, Source):
            raise JobInvalidError(
                f"{where('read')}: {source!r} is not a source", hint="give it a KafkaSource or FileSource"
            )
        name = self._builder.claim_uid(uid, "source", "read", f"{source.kind}-in")
        for column in source.schema:
            check_name("read", column)
        return Stream(self._builder.add(SourceNode(name, source, dict(source.schema))))

    def graph(self) -> Graph:
        """Return the graph, checked as a whole. Raises `JobInvalidError` for a job that could not run."""
        return self._builder.graph(self.name)

    def check_delivery(self, delivery: str) -> None:
        """Refuse sources that cannot seek if a sink promises exactly-once; `delivery` is the job's default."""
        check_delivery(self.graph(), delivery)

    def run(self, **options: object) -> Result:
        """Run the job in this process and worker processes of its own, until it finishes or is stopped.

        Options are those of `tidegate run`. Raises what ended the job; see `tidegate.engine.launch.run_job`.
        """
        from .launch import run_job  # noqa: PLC0415 (a job file that is only loaded needs none of it)

        return run_job(self, settings_for(self.options, options))

    def __repr__(self) -> str:
        return f"Job({self.name!r})"
