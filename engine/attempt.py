"""One attempt of a job: recovers, runs checkpoints, commits, and ends with the reason why.

One loop over worker messages, finished background work and the clock; everything that is decided is decided by the pure
machines of `engine/protocol`, and carried out by the parts this loop feeds.
"""

from __future__ import annotations

import logging
import selectors
import time
from typing import Final

from .aftermath import Aftermath, note
from .checkpointing import Checkpointing
from .cluster import Cluster, WorkerProcess
from .context import Context, Ended, Facts
from .errors import TidegateError
from .messages import (
    Ack,
    Committed,
    Failed,
    Fenced,
    Leave,
    Progress,
    SourcesFinished,
    ToCoordinator,
    TryFailed,
    decode_to_coordinator,
)
from .recovering import Recovering
from .source_side import Sources
from .supervision import Supervision

log = logging.getLogger(__name__)

TICK_S: Final = 0.05
"""How often the clock is looked at: the finest step of checkpoint intervals and time-outs."""


class Attempt:
    """Runs one attempt in the calling thread. `request_stop` may be called from any thread or signal handler."""

    def __init__(self, context: Context) -> None:
        self._c = context
        settings = context.settings
        cluster = Cluster(settings.workers)
        sources = Sources(context.graph, context.job, settings.until_end, context.background)
        self._f = Facts(context, cluster, sources)
        self._selector = selectors.DefaultSelector()
        self._recovering = Recovering(self._f, self._listen, self._running)
        self._supervision = Supervision(self._f)
        self._checkpointing: Checkpointing | None = None
        self._aftermath: Aftermath | None = None
        self._noted = 0

    def request_stop(self) -> None:
        """Ask for a final checkpoint and the end."""
        self._f.stop = True
        self._c.background.wake()

    def run(self) -> Ended:
        """Run until the attempt ends; workers are gone when this returns."""
        try:
            self._recovering.begin()
            self._selector.register(self._c.background, selectors.EVENT_READ, None)
            while self._f.ended is None:
                self._turn()
        except TidegateError as error:
            self._f.end("failed", error)
        finally:
            self._leave()
        assert self._f.ended is not None
        return self._f.ended

    def _turn(self) -> None:
        for key, _ in self._selector.select(timeout=TICK_S):
            if key.data is None:
                self._c.background.drain()
            else:
                self._hear(key.data)
            if self._f.ended is not None:
                return
        self._clock(time.monotonic())

    def _leave(self) -> None:
        if self._f.ended is not None and self._f.ended.how in {"finished", "stopped"}:
            self._f.tell_all(Leave())
            self._f.cluster.leave()
        else:
            self._f.cluster.kill()
        self._f.sources.close()
        self._selector.close()

    def _listen(self, worker: WorkerProcess) -> None:
        self._supervision.heard(worker.index)
        self._selector.register(worker.control, selectors.EVENT_READ, worker)

    def _running(self) -> None:
        self._checkpointing = Checkpointing(self._f)
        self._aftermath = Aftermath(self._f)
        self._supervision.running()
        self._f.phase("running")

    def _clock(self, now: float) -> None:
        self._supervision.check_alive(now, self._recovering.running)
        self._supervision.report(now)
        self._recovering.check_time(now)
        if self._checkpointing is None or self._aftermath is None:
            manifest = self._f.manifest
            if self._f.stop and (manifest is None or not manifest.committables):
                # Nothing was read and nothing is pending, so there is nothing to close.
                self._f.end("stopped")
            return
        self._f.sources.look(now)
        self._checkpointing.tick(now)
        if self._checkpointing.final_decided:
            self._aftermath.close(now)
        if self._f.decided != self._noted:
            # Epochs without output are committed as soon as they are decided.
            self._noted = self._f.decided
            self._aftermath.decided()

    def _hear(self, worker: WorkerProcess) -> None:
        frames = worker.control.receive_ready()
        if frames is None:
            self._supervision.gone(worker)
            return
        self._supervision.heard(worker.index)
        for frame in frames:
            if self._f.ended is None:
                self._message(worker.index, decode_to_coordinator(frame))

    def _message(self, worker: int, message: ToCoordinator) -> None:
        checkpointing = self._checkpointing
        match message:
            case Progress():
                self._supervision.progress(worker, message)
            case Fenced():
                self._recovering.fenced(worker, message)
            case Committed():
                note(self._f, message)
                self._recovering.committed()
                if self._aftermath is not None:
                    self._aftermath.committed()
            case Ack() if checkpointing is not None:
                checkpointing.acknowledged(worker, message)
            case TryFailed(epoch, tries, reason) if checkpointing is not None:
                checkpointing.failed(epoch, tries, f"worker {worker}: {reason}")
            case SourcesFinished():
                self._f.finished.add(worker)
            case Failed():
                self._supervision.failed(worker, message)
            case _:
                log.warning("worker %d sent %s before anything was running", worker, type(message).__name__)
