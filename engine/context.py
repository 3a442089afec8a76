"""What the parts of an attempt share: the run's context, and the facts of the attempt so far."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .assembly import Books
from .background import Background
from .cluster import Cluster
from .errors import FencedError, TidegateError
from .graph import Graph
from .messages import ToWorker
from .ports.log import CheckpointLog
from .protocol.manifest import Manifest
from .runtime import Catalog, Runtime
from .settings import AT_LEAST_ONCE, Settings
from .source_side import Sources
from .status import Reporter, Status


@dataclass(frozen=True)
class Context:
    """What all attempts of one run share."""

    job: str
    reference: str
    graph: Graph
    key_groups: int
    settings: Settings
    runtime: Runtime
    log: CheckpointLog
    catalog: Catalog
    background: Background
    report: Reporter
    status: Status

    def exact_sinks(self) -> list[str]:
        """Return the uids of the sinks that keep outboxes."""
        delivery = self.settings.delivery
        return [uid for uid, node in self.graph.sinks().items() if (node.sink.delivery or delivery) != AT_LEAST_ONCE]


@dataclass(frozen=True)
class Ended:
    """How an attempt ended: `finished`, `stopped`, `start-over` or `failed` with its error."""

    how: str
    error: TidegateError | None = None
    progressed: bool = False


@dataclass
class Facts:
    """One attempt so far. Only its main loop changes these."""

    context: Context
    cluster: Cluster
    sources: Sources
    number: int = 0
    manifest: Manifest | None = None
    books: Books = field(default_factory=lambda: Books({}, frozenset()))
    targets: dict[str, dict[str, object]] = field(default_factory=dict)
    decided: int = 0
    stop: bool = False
    finished: set[int] = field(default_factory=set)
    ended: Ended | None = None

    @property
    def newest(self) -> Manifest:
        """The newest decided manifest."""
        if self.manifest is None:
            raise AssertionError("the newest manifest was not read yet")
        return self.manifest

    def end(self, how: str, error: TidegateError | None = None) -> None:
        """End the attempt; the first reason counts."""
        if self.ended is None:
            self.ended = Ended(how, error, self.decided > 0)
            if self.number:
                self._note("fenced" if isinstance(error, FencedError) else how)

    def highest_attempt(self) -> int:
        """Return the highest attempt number taken by anybody."""
        return max(self.context.log.attempts(), default=0)

    def fenced_by(self, newer: int) -> FencedError:
        """Make the error for a newer attempt."""
        job = self.context.job
        return FencedError(
            f"attempt {self.number} found attempt {newer} and stopped; another coordinator runs job '{job}'"
        )

    def phase(self, phase: str) -> None:
        """Enter a phase of the attempt's life."""
        status = self.context.status
        if status.phase == phase:
            return
        status.phase = phase
        self._note(phase)
        self.context.report(status)

    def _note(self, phase: str) -> None:
        about: Mapping[str, object] = {"workers": self.context.settings.workers}
        number = self.number
        self.catalog(lambda: self.context.catalog.attempt(number, phase, about))

    def catalog(self, work: Callable[[], object]) -> None:
        """Tell the catalog something, in its own lane; its failures are warnings."""
        self.context.background.try_run("catalog", work)

    def tell_all(self, message: ToWorker) -> None:
        """Send a message to every worker."""
        for worker in self.cluster.workers:
            worker.send(message)

    def about(self) -> dict[str, object]:
        """Return the fields that every manifest of this attempt has of its own."""
        settings = self.context.settings
        return {
            "attempt": self.number,
            "writer": new_writer(),
            "created_ms": now_ms(),
            "parallelism": settings.workers,
            "delivery": settings.delivery,
            "targets": dict(self.targets),
        }


def new_writer() -> str:
    """Return a mark that makes the bytes of a manifest unique, so that a lost answer is recognised by reading back."""
    return secrets.token_hex(12)


def now_ms() -> int:
    """Return the wall clock in milliseconds; only ever informative."""
    return time.time_ns() // 1_000_000
