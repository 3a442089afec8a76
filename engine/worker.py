"""A worker process: the data thread that drives a dataflow, and the threads around it.

The data thread alone touches entries, steps and state. Control messages, received frames, source batches and outcomes of
uploads and commits reach it through queues and one wake-up.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import threading
import time
from typing import Final

import polars as pl

from . import logs
from .dataflow import Builder, Hooks, Place
from .elements import Barrier
from .errors import FencedError, TidegateError
from .exchange import Exchange, Kind
from .failpoints import failpoint
from .loading import JobReference, load
from .messages import (
    AbandonTry,
    CommitPending,
    Committed,
    Decided,
    Failed,
    Fenced,
    Leave,
    Progress,
    Run,
    SendBarrier,
    Setup,
    SourcesFinished,
    ToCoordinator,
    ToWorker,
    decode_to_worker,
    encode,
)
from .committer import SinkCommits
from .ports.sink import SinkContext
from .protocol.manifest import FileRef
from .runtime import installed
from .settings import AT_LEAST_ONCE
from .uploads import Parts, Uploader
from .wire import FrameSocket

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_S: Final = 0.5
IDLE_WAIT_S: Final = 0.1
"""Longest sleep of the data thread when nothing is there; watermarks and progress are looked at this often."""


def run_worker(control_fd: int, listener_fd: int) -> int:
    """Run the worker whose coordinator holds the other end of `control_fd`; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = Control(FrameSocket(socket.socket(fileno=control_fd)))
    setup = control.setup()
    logs.configure_worker(as_json=setup.settings.json_logs, job=setup.job, attempt=setup.attempt, worker=setup.subtask)
    try:
        worker = Worker(setup, control, socket.socket(fileno=listener_fd))
        worker.run()
    except Exception as error:
        # The last message of a worker says why it ends; the coordinator decides what becomes of the job.
        control.send(_failure(error))
        if not isinstance(error, TidegateError):
            log.exception("ended by a defect")
        return error.exit_code if isinstance(error, TidegateError) else 1
    return 0


def _failure(error: Exception) -> Failed:
    if isinstance(error, TidegateError):
        return Failed(type(error).__name__, error.message, error.hint, error.retryable, error.exit_code)
    return Failed(type(error).__name__, f"{type(error).__name__}: {error}", "", retryable=True, exit_code=1)


class Control:
    """The control channel: a thread that receives into a queue, and a `send` for any thread."""

    def __init__(self, frames: FrameSocket) -> None:
        self._frames = frames
        self.messages: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        self.wake = threading.Event()
        threading.Thread(target=self._receive, name="control", daemon=True).start()

    def setup(self) -> Setup:
        """Wait for the first message; the coordinator sends it right after starting the process."""
        message = self.messages.get(timeout=60.0)
        assert isinstance(message, Setup)
        return message

    def send(self, message: ToCoordinator) -> None:
        """Send a message; a coordinator that is gone ends this process."""
        try:
            self._frames.send(encode(message))
        except OSError:
            os._exit(1)

    def _receive(self) -> None:
        while True:
            frames = self._frames.receive_blocking()
            if frames is None:
                # Without a coordinator nothing of this worker can be decided any more.
                os._exit(1)
            for frame in frames:
                self.messages.put(decode_to_worker(frame))
            self.wake.set()


class Worker:
    """One worker of one attempt."""

    def __init__(self, setup: Setup, control: Control, listener: socket.socket) -> None:
        self._setup = setup
        self._control = control
        self._runtime = installed()
        self._graph = load(JobReference.parse(setup.reference), setup.job).graph()
        self._failure: Exception | None = None
        self._parts: Parts | None = None
        self._running = False
        self._reading = True
        self._leaving = False
        self._finished_told = False
        self._fenced_told = False
        self._last_progress = 0.0
        settings = setup.settings
        self._storage_log = self._runtime.open_log(settings.storage, setup.job)
        self._exchange = Exchange(
            setup.subtask,
            listener,
            setup.token,
            settings.exchange_bytes_max // setup.parallelism,
            self._received,
            self._fail,
        )
        self._exchange.connect(setup.peers)
        failpoint("worker.set-up")
        place = Place(
            setup.job, setup.job_uid, setup.attempt, setup.subtask, setup.parallelism, setup.key_groups,
            settings.delivery, settings.batch_rows_max, settings.exchange_bytes_max, setup.targets, setup.watermarks,
        )  # fmt: skip
        hooks = Hooks(control.wake.set, self._state_handed, self._output_handed, self._flushed)
        self._commits = self._open_commits()
        self._flow = Builder(self._graph, place, hooks, self._runtime.new_table, self._exchange.outgoing).build()
        self._uploader = Uploader(
            self._storage_log.store, setup.subtask, setup.targets, self._write_run, control.send, self._fail
        )

    def _open_commits(self) -> dict[str, SinkCommits]:
        """Start fencing at once: it takes longest, and needs nothing but the sinks."""
        commits = {}
        for uid, node in self._graph.sinks().items():
            if (node.sink.delivery or self._setup.settings.delivery) == AT_LEAST_ONCE:
                continue
            context = SinkContext(
                self._setup.job, self._setup.job_uid, uid, self._setup.attempt, self._setup.parallelism, self._setup.targets[uid]
            )
            known = {s.subtask: s.committed for s in self._setup.sinks if s.sink_uid == uid}
            commits[uid] = SinkCommits(
                uid, self._setup.job_uid, self._setup.attempt, lambda n=node, c=context: n.sink.open_committer(c),
                self._read_file, self._committed, self._fail,
            )  # fmt: skip
            commits[uid].start(known, self._setup.epoch)
        return commits

    # Called from other threads.

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._control.wake.set()

    def _committed(self, sink_uid: str, subtask: int, epoch: int) -> None:
        if epoch:
            self._control.send(Committed(sink_uid, subtask, epoch))
        self._control.wake.set()

    def _received(self, sender: int, kind: Kind, port: int, payload: bytes, give: object) -> None:
        if kind is not Kind.CREDIT:
            self._flow.ports[port].deliver(sender, kind, payload, give if callable(give) else None)
        self._control.wake.set()

    def _read_file(self, file: FileRef) -> bytes:
        return self._runtime.read_file(self._storage_log, file)

    def _write_run(self, uid: str, run: pl.DataFrame) -> bytes:
        return self._runtime.write_run(run, self._flow.windows[uid].state.view())

    # Called by the steps, in the data thread.

    def _state_handed(self, uid: str, runs: object) -> None:
        if self._parts is not None:
            self._parts.states[uid] = list(runs)  # type: ignore[call-overload]
            self._parts.count("late", self._flow.windows[uid].late)
            self._part_handed()

    def _output_handed(self, uid: str, batches: object) -> None:
        if self._parts is not None:
            self._parts.outputs[uid] = batches  # type: ignore[assignment]
            self._parts.count("rows_out", self._flow.outboxes[uid].rows_out)
            self._part_handed()

    def _flushed(self, uid: str) -> None:
        if self._parts is not None:
            self._parts.count("rows_out", self._flow.direct[uid].rows_out)
            self._part_handed()

    def _part_handed(self) -> None:
        parts = self._parts
        if parts is None:
            return
        parts.handed += 1
        if parts.complete:
            windows, ports = list(self._flow.windows), self._flow.ports
            parts.watermarks = {uid: port.watermark for uid, port in zip(windows, ports, strict=True)}
            self._parts = None
            self._uploader.submit(parts)

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
        for uid, window in self._flow.windows.items():
            low = -(-setup.subtask * setup.key_groups // setup.parallelism)
            high = -(-(setup.subtask + 1) * setup.key_groups // setup.parallelism)
            runs = [
                self._runtime.read_run(self._read_file(state.file), low, high) for state in setup.states if state.uid == uid
            ]
            window.state.restore([run for run in runs if run.height])
        for uid, entry in self._flow.sources.items():
            entry.add([split for split in setup.splits if split.source_uid == uid])

    def _obey(self) -> None:
        while not self._control.messages.empty():
            match self._control.messages.get():
                case CommitPending(committables):
                    failpoint("worker.pending-received")
                    for committable in committables:
                        self._commits[committable.sink_uid].pending(committable)
                case Run():
                    for entry in self._flow.sources.values():
                        entry.start()
                    self._running = True
                    failpoint("worker.running")
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

    def _barrier(self, message: SendBarrier) -> None:
        failpoint("worker.barrier-received")
        barrier = Barrier(self._setup.attempt, message.epoch, message.tries)
        self._reading = not message.last
        parts = Parts(barrier, self._flow.participants, counters=self._read_so_far())
        self._parts = parts
        for uid, entry in self._flow.sources.items():
            parts.splits += entry.barrier(barrier)
            new = [split for split in message.splits if split.source_uid == uid]
            if new:
                entry.add(new)
            self._part_handed()

    def _abandon(self, barrier: Barrier) -> None:
        if self._parts is not None and self._parts.barrier <= barrier:
            self._parts = None
        for port in self._flow.ports:
            port.abandon(barrier)
        for union in self._flow.unions:
            union.abandon(barrier)

    def _decided(self, epoch: int) -> None:
        failpoint("worker.decided")
        for uid, outbox in self._flow.outboxes.items():
            batches = outbox.decided()
            if batches:
                self._commits[uid].decided(self._setup.subtask, epoch, batches, sum(batch.nbytes for batch in batches))

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

    def _read_so_far(self) -> dict[str, int]:
        return {
            "rows_in": sum(entry.rows_in for entry in self._flow.sources.values()),
            "skipped": sum(entry.skipped for entry in self._flow.sources.values()),
        }

    def _counters(self) -> dict[str, int]:
        return {
            **self._read_so_far(),
            "late": sum(window.late for window in self._flow.windows.values()),
            "rows_out": sum(step.rows_out for step in (*self._flow.outboxes.values(), *self._flow.direct.values())),
        }

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
        watermarks = [port.watermark for port in self._flow.ports]
        return Progress(
            **self._counters(),
            watermark=min(watermarks, default=None),
            backlog_bytes=self._backlog(),
            state_rows=sum(window.state.rows for window in self._flow.windows.values()),
            state_bytes=sum(window.state.bytes for window in self._flow.windows.values()),
            caught_up=all(entry.caught_up for entry in self._flow.sources.values()),
            waiting_on="exchange" if any(entry.held for entry in self._flow.sources.values()) else "",
        )
