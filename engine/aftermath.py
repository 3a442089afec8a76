"""What follows a decision: commits noted, offsets reported, checkpoints retired, and the run closed when it ends."""

from __future__ import annotations

import logging
import time
from typing import Final

from . import assembly
from .checkpointing import write
from .context import Facts, now_ms
from .errors import TidegateError
from .failpoints import failpoint
from .messages import Committed
from .protocol.manifest import Kind, Manifest
from .runtime import Retirement

log = logging.getLogger(__name__)

RETIRE_EVERY: Final = 10
"""Epochs between two looks for checkpoints to retire."""


class Aftermath:
    """Follows the commits of a running attempt."""

    def __init__(self, facts: Facts) -> None:
        self._f = facts
        self._c = facts.context
        self._told = facts.newest.epoch
        self._retire_at = 0
        self._retirement: Retirement = facts.context.runtime.open_retirement(
            facts.context.log, facts.number, facts.context.settings.retain
        )
        self._closing: Manifest | None = None
        self._writing = False
        self._closing_since: float | None = None

    def decided(self) -> None:
        """Take in that an epoch was decided; it may have had no output."""
        manifest = self._f.newest
        self._c.background.try_run("retire", lambda: self._retirement.remember(manifest))
        self.committed()

    def committed(self) -> None:
        """Take in that books changed: note how far everything is committed."""
        through = self._f.books.committed_through(self._f.newest.epoch)
        if through <= self._told:
            return
        failpoint("coordinator.committed")
        self._told = self._c.status.committed = through
        self._f.books.retire(through)
        at = now_ms()
        self._f.catalog(lambda: self._c.catalog.committed(through, at))
        if through == self._f.newest.epoch:
            self._f.sources.report(self._f.newest)
        if through >= self._retire_at:
            self._retire_at = through + RETIRE_EVERY
            self._c.background.try_run("retire", self._retire)

    def _retire(self) -> None:
        failpoint("coordinator.before-retire")
        retired = self._retirement.retire()
        if retired.reason:
            log.warning("no checkpoint was retired: %s", retired.reason)
        if retired.epochs:
            epochs = list(retired.epochs)
            self._f.catalog(lambda: self._c.catalog.retired(epochs))

    def close(self, now: float) -> None:
        """After the final epoch: wait until all output is committed, then write down that nothing is pending."""
        self._closing_since = self._closing_since or now
        late = now - self._closing_since > self._c.settings.stop_timeout_s
        if self._f.books.outstanding:
            if late:
                rows = sum(c.rows for c in self._f.books.outstanding)
                waited = f"{self._c.settings.stop_timeout_s:g} s"
                message = f"{rows} records of decided output are still not committed {waited} after the stop"
                hint = "nothing is lost: the next start of this job commits them before anything else"
                self._f.end("failed", TidegateError(message, hint=hint))
            return
        if self._writing:
            return
        if self._closing is None:
            failpoint("coordinator.before-closing-manifest")
            kind = Kind.STOPPED if self._f.stop else Kind.FINISHED
            self._closing = assembly.closing_manifest(self._f.newest, self._f.books, kind=kind, **self._f.about())
        manifest = self._closing
        self._writing = True
        self._c.background.run("decide", lambda: write(self._f, manifest), self._closed, self._not_closed)

    def _closed(self, won: bool) -> None:
        manifest = self._closing
        if not won or manifest is None:
            self._f.end("start-over")
            return
        self._f.catalog(lambda: self._c.catalog.decided(manifest, {}, manifest.kind.value))
        self._f.catalog(lambda: self._c.catalog.committed(manifest.epoch, manifest.created_ms))
        self._c.status.epoch = self._c.status.committed = manifest.epoch
        self._c.status.count(manifest.counters)
        self._f.end("stopped" if manifest.kind is Kind.STOPPED else "finished")

    def _not_closed(self, error: Exception) -> None:
        self._writing = False
        if not isinstance(error, TidegateError):
            raise error
        now = time.monotonic()
        if not error.retryable or now - (self._closing_since or now) > self._c.settings.stop_timeout_s:
            self._f.end("failed", error)
            return
        log.warning("the closing manifest is not written yet: %s", error)


def note(facts: Facts, message: Committed) -> None:
    """Note in the books what a worker reported."""
    facts.books.done((message.sink_uid, message.subtask), message.epoch)
