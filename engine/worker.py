"""A worker: the data thread that drives a dataflow, and the threads around it.

The data thread alone touches entries, steps and state. Control messages, received frames, source batches and outcomes
of uploads and commits reach it through queues and one wake-up.
"""

from __future__ import annotations

import functools
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

import polars as pl

from .committer import SinkCommits
from .control import Control
from .dataflow import Builder, Hooks, Place
from .elements import Barrier
from .exchange import Exchange, Kind
from .failpoints import failpoint
from .handover import Handover
from .loading import JobReference, load
from .messages import (
    AbandonTry,
    CommitPending,
    Committed,
    Decided,
    Fenced,
    Leave,
    Progress,
    Run,
    SendBarrier,
    Setup,
    SourcesFinished,
)
from .ports.sink import SinkContext
from .protocol.manifest import Committable, FileRef
from .runtime import installed
from .settings import AT_LEAST_ONCE
from .sink_steps import DirectStep, OutboxStep
from .uploads import Parts, Uploader

PROGRESS_INTERVAL_S: Final = 0.5
IDLE_WAIT_S: Final = 0.1
"""Longest sleep of the data thread when nothing is there; watermarks and progress are looked at this often."""


class Worker:
    """One worker of one attempt."""

    def __init__(self, setup: Setup, control: Control, listener: socket.socket) -> None:
        self._setup = setup
        self._control = control
        self._runtime = installed()
        self._graph = load(JobReference.parse(setup.reference), setup.job).graph()
        self._failure: Exception | None = None
        self._running = False
        self._reading = True
        self._leaving = False
        self._finished_told = False
        self._fenced_told = False
        self._last_progress = 0.0
        settings = setup.settings
        self._log = self._runtime.open_log(settings.storage, setup.job)
        window = settings.exchange_bytes_max // setup.parallelism
        self._exchange = Exchange(setup.subtask, listener, setup.token, window, self._received, self._fail)
        self._exchange.connect(setup.peers)
        failpoint("worker.set-up")
        place = Place(
            setup.job, setup.job_uid, setup.attempt, setup.subtask, setup.parallelism, setup.key_groups,
            settings.delivery, settings.batch_rows_max, settings.exchange_bytes_max, setup.targets, setup.watermarks,
        )  # fmt: skip
        self._commits = self._open_commits()
        self._uploader = Uploader(
            self._log.store, setup.subtask, setup.targets, self._write_run, control.send, self._fail
        )
        self._handover = Handover(self._uploader.submit)
        hooks = Hooks(control.wake.set, self._handover.state, self._handover.output, self._handover.flushed)
        builder = Builder(self._graph, place, hooks, self._runtime.new_table, self._exchange.outgoing)
        self._flow = self._handover.flow = builder.build()

    def _open_commits(self) -> dict[str, SinkCommits]:
        """Start fencing at once: it takes longest, and needs nothing but the sinks."""
        setup, commits = self._setup, {}
        for uid, node in self._graph.sinks().items():
            if (node.sink.delivery or setup.settings.delivery) == AT_LEAST_ONCE:
                continue
            context = SinkContext(setup.job, setup.job_uid, uid, setup.attempt, setup.parallelism, setup.targets[uid])
            commits[uid] = SinkCommits(
                uid, setup.job_uid, setup.attempt, functools.partial(node.sink.open_committer, context),
                self._read_file, self._committed, self._fail,
            )  # fmt: skip
            known = {s.subtask: s.committed for s in setup.sinks if s.sink_uid == uid}
            commits[uid].start(known, setup.epoch)
        return commits

    # Called from other threads.

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._control.wake.set()

    def _committed(self, sink_uid: str, subtask: int, epoch: int) -> None:
        if epoch:
            self._control.send(Committed(sink_uid, subtask, epoch))
        self._control.wake.set()

    def _received(self, sender: int, kind: Kind, port: int, payload: bytes, give: Callable[[int], None]) -> None:
        if kind is not Kind.CREDIT:
            self._flow.ports[port].deliver(sender, kind, payload, give)
        self._control.wake.set()

    def _read_file(self, file: FileRef) -> bytes:
        return self._runtime.read_file(self._log, file)

    def _write_run(self, uid: str, run: pl.DataFrame) -> bytes:
        return self._runtime.write_run(run, self._flow.windows[uid].state.view())

    # The data thread.

    def run(self) -> None:
        """Process until told to leave. Raises what ends the attempt."""
        self._restore()
        failpoint("worker.restored")
        while not self._leaving:
            self._control.wake.clear()
            if self._failure is not None:
                raise self._failure
            self._obey()
            busy = self._running and self._work()
            self._tell()
            if not busy:
                self._control.wake.wait(IDLE_WAIT_S)
        for entry in self._flow.sources.values():
            entry.close()
        for commits in self._commits.values():
            commits.close()
        self._uploader.close()
        self._exchange.close()

    def _restore(self) -> None:
        setup = self._setup
        # The key groups g with g * parallelism // key_groups == subtask.
        low = -(-setup.subtask * setup.key_groups // setup.parallelism)
        high = -(-(setup.subtask + 1) * setup.key_groups // setup.parallelism)
        for uid, window in self._flow.windows.items():
            files = [s.file for s in setup.states if s.uid == uid and s.groups_from < high and s.groups_to > low]
            runs = [self._runtime.read_run(self._read_file(file), low, high) for file in files]
            window.state.restore([run for run in runs if run.height])
        for uid, entry in self._flow.sources.items():
            entry.add([split for split in setup.splits if split.source_uid == uid])

    def _obey(self) -> None:
        while not self._control.messages.empty():
            match self._control.messages.get():
                case CommitPending(committables):
                    self._pending(committables)
                case Run():
                    self._start()
                case SendBarrier() as message:
                    self._barrier(message)
                case AbandonTry(epoch, tries):
                    self._abandon(Barrier(self._setup.attempt, epoch, tries))
                case Decided(epoch, _):
                    self._decided(epoch)
                case Leave():
                    self._leaving = True
                case Setup():
                    raise AssertionError("a worker is set up once")

    def _pending(self, committables: Sequence[Committable]) -> None:
        failpoint("worker.pending-received")
        for committable in committables:
            self._commits[committable.sink_uid].pending(committable)

    def _start(self) -> None:
        for entry in self._flow.sources.values():
            entry.start()
        self._running = True
        failpoint("worker.running")

    def _barrier(self, message: SendBarrier) -> None:
        failpoint("worker.barrier-received")
        barrier = Barrier(self._setup.attempt, message.epoch, message.tries)
        self._reading = not message.last
        parts: Parts = self._handover.begin(barrier)
        for uid, entry in self._flow.sources.items():
            parts.splits += entry.barrier(barrier)
            new = [split for split in message.splits if split.source_uid == uid]
            if new:
                self._finished_told = False
                entry.add(new)
            self._handover.one_more()

    def _abandon(self, barrier: Barrier) -> None:
        self._handover.abandon(barrier)
        for port in self._flow.ports:
            port.abandon(barrier)
        for union in self._flow.unions:
            union.abandon(barrier)

    def _decided(self, epoch: int) -> None:
        failpoint("worker.decided")
        for uid, outbox in self._flow.outboxes.items():
            batches = outbox.decided()
            if batches:
                size = sum(batch.nbytes for batch in batches)
                self._commits[uid].decided(self._setup.subtask, epoch, batches, size)

    def _work(self) -> bool:
        """Process one element of every entry that may go on, downstream first; False when there was none."""
        busy = False
        for port in reversed(self._flow.ports):
            if port.ready:
                port.step()
                busy = True
        if self._reading and self._backlog() <= self._setup.settings.outbox_bytes_max:
            for entry in self._flow.sources.values():
                if entry.ready:
                    entry.step()
                    busy = True
                else:
                    entry.look()
        return busy

    def _backlog(self) -> int:
        return sum(commits.backlog_bytes for commits in self._commits.values())

    # What the coordinator hears.

    def _tell(self) -> None:
        if not self._fenced_told and all(commits.ready for commits in self._commits.values()):
            self._fenced_told = True
            self._control.send(Fenced({uid: commits.committed for uid, commits in self._commits.items()}))
        if self._running and not self._finished_told and all(e.finished for e in self._flow.sources.values()):
            self._finished_told = True
            self._control.send(SourcesFinished())
        now = time.monotonic()
        if now - self._last_progress >= PROGRESS_INTERVAL_S:
            self._last_progress = now
            self._control.send(self._progress())

    def _progress(self) -> Progress:
        flow = self._flow
        sinks: list[OutboxStep | DirectStep] = [*flow.outboxes.values(), *flow.direct.values()]
        return Progress(
            rows_in=sum(entry.rows_in for entry in flow.sources.values()),
            rows_out=sum(step.rows_out for step in sinks),
            late=sum(window.late for window in flow.windows.values()),
            skipped=sum(entry.skipped for entry in flow.sources.values()),
            watermark=min((port.watermark for port in flow.ports), default=None),
            backlog_bytes=self._backlog(),
            state_rows=sum(window.state.rows for window in flow.windows.values()),
            state_bytes=sum(window.state.bytes for window in flow.windows.values()),
            caught_up=all(entry.caught_up for entry in flow.sources.values()),
            waiting_on="exchange" if any(entry.held for entry in flow.sources.values()) else "",
        )
