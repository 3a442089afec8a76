"""One attempt of a job: recovers, runs checkpoints, commits, and ends with the reason why.

This is the shell around the pure machines of `engine/protocol`: one loop over worker messages, finished background work
and timers feeds events in and obeys the instructions that come out.
"""

from __future__ import annotations

import logging
import secrets
import selectors
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from . import assembly
from .assembly import Books
from .background import Background
from .cluster import Cluster, WorkerProcess
from .errors import FencedError, TidegateError, WorkerLostError
from .failpoints import failpoint
from .graph import Graph
from .logs import ABOUT
from .messages import (
    AbandonTry,
    Ack,
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
    TryFailed,
    decode_to_coordinator,
)
from .ports.log import CheckpointLog
from .protocol import checkpoint as cp
from .protocol import recovery as rc
from .protocol.manifest import Kind, Manifest
from .runtime import Catalog, Retirement, Runtime
from .settings import AT_LEAST_ONCE, Settings
from .source_side import Sources
from .status import COUNTED, Reporter, Status

log = logging.getLogger(__name__)

TICK_S: Final = 0.2
RESOLVE_PAUSE_S: Final = 1.0
REPORT_INTERVAL_S: Final = 0.5
RETIRE_EVERY: Final = 10
"""Epochs between two looks for checkpoints to retire."""
SETUP_TIMEOUT_S: Final = 120.0
"""How long workers may take to load the job, restore state, fence and read the ledger."""


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


@dataclass(frozen=True)
class Ended:
    """How an attempt ended: `finished`, `stopped`, `start-over` or `failed` with its error."""

    how: str
    error: TidegateError | None = None
    progressed: bool = False


class Attempt:
    """Runs one attempt in the calling thread. `request_stop` may be called from any thread or signal handler."""

    def __init__(self, context: Context) -> None:
        self._c = context
        self._s = context.settings
        self._recovery = rc.Recovery(self._s.workers)
        self._cluster = Cluster(self._s.workers)
        self._selector = selectors.DefaultSelector()
        self._sources = Sources(context.graph, context.job, self._s.until_end, context.background)
        self._manifest: Manifest | None = None
        self._checkpoints: cp.Checkpoints | None = None
        self._books = Books({}, frozenset())
        self._targets: dict[str, dict[str, object]] = {}
        self._acks: dict[int, Ack] = {}
        self._deciding: Manifest | None = None
        self._ended: Ended | None = None
        self._stop = False
        self._stop_since: float | None = None
        self._closing = False
        self._finished: set[int] = set()
        self._progress: dict[int, Progress] = {}
        self._heard: dict[int, float] = {}
        self._base: dict[str, int] = {}
        self._committed_told = 0
        self._retire_at = 0
        self._retirement: Retirement | None = None
        self._decided_count = 0
        self._started = time.monotonic()
        self._due_at = 0.0
        self._try_started = 0.0
        self._collected = 0.0
        self._resolve_at: float | None = None
        self._report_at = 0.0
        self._rate = (time.monotonic(), 0)

    def request_stop(self) -> None:
        """Ask for a final checkpoint and the end."""
        self._stop = True
        self._c.background.wake()

    def run(self) -> Ended:
        """Run until the attempt ends; workers are gone when this returns."""
        try:
            self._recover(self._recovery.on(rc.Begin(max(self._c.log.attempts(), default=0))))
            self._selector.register(self._c.background, selectors.EVENT_READ, None)
            while self._ended is None:
                for key, _ in self._selector.select(timeout=TICK_S):
                    if key.data is None:
                        self._c.background.drain()
                    else:
                        self._hear(key.data)
                    if self._ended is not None:
                        break
                if self._ended is None:
                    self._timers()
        except TidegateError as error:
            self._ended = Ended("failed", error, self._decided_count > 0)
        finally:
            if self._ended is not None and self._ended.how in {"finished", "stopped"}:
                self._tell_all(Leave())
                self._cluster.leave()
            else:
                self._cluster.kill()
            self._sources.close()
            self._selector.close()
        return self._ended

    def _end(self, how: str, error: TidegateError | None = None) -> None:
        self._ended = self._ended or Ended(how, error, self._decided_count > 0)

    # Recovery.

    def _recover(self, instructions: list[rc.Instruction]) -> None:
        while instructions:
            instruction = instructions.pop(0)
            instructions += self._recovery.on(event) if (event := self._obey_recovery(instruction)) is not None else []

    def _obey_recovery(self, instruction: rc.Instruction) -> object | None:
        match instruction:
            case rc.ClaimAttempt(attempt):
                return self._claim(attempt)
            case rc.ReadNewest():
                self._manifest = self._c.log.newest()
                return rc.NewestRead(None if self._manifest is None else self._manifest.epoch)
            case rc.WriteIdentity():
                return rc.IdentityWritten(self._write_identity())
            case rc.StartWorkers():
                self._start_workers()
            case rc.ListAgain():
                failpoint("coordinator.fenced-before-relist")
                return rc.Relisted(max(self._c.log.epochs()), max(self._c.log.attempts()))
            case rc.CommitPending():
                self._commit_pending()
                return self._pending_event()
            case rc.Run():
                self._run_sources()
            case rc.StartOver(epoch):
                log.info("epoch %d was decided by somebody else while fencing; recovering again", epoch)
                self._end("start-over")
            case rc.StandDown(newer):
                self._end("failed", self._fenced_by(newer))
        return None

    def _claim(self, attempt: int) -> object:
        about = {"attempt": attempt, "job": self._c.job, "workers": self._s.workers, "started_ms": _now_ms()}
        if not self._c.log.claim(attempt, about):
            return rc.ClaimLost()
        self._c.status.attempt = ABOUT.attempt = attempt
        self._phase("recovering")
        failpoint("coordinator.attempt-claimed")
        return rc.Claimed()

    def _write_identity(self) -> bool:
        uid = secrets.token_hex(8)
        manifest = Manifest(
            job=self._c.job,
            job_uid=uid,
            epoch=0,
            attempt=self._recovery.attempt,
            tries=1,
            kind=Kind.START,
            delivery=self._s.delivery,
            writer=_writer(),
            parallelism=self._s.workers,
            key_groups=self._c.key_groups,
            created_ms=_now_ms(),
            splits=tuple(self._sources.first()),
            until_end=self._s.until_end,
        )
        ours = self._c.log.decide(manifest)
        if ours:
            self._catalog(lambda: self._c.catalog.decided(manifest, {}, "start"))
        failpoint("coordinator.identity-written")
        return ours

    def _start_workers(self) -> None:
        manifest = self._newest
        if manifest.kind is Kind.FINISHED:
            log.info("job '%s' finished at epoch %d, nothing to do", self._c.job, manifest.epoch)
            self._end("finished")
            return
        assembly.check_fits(manifest, self._c.graph)
        assembly.check_key_groups(manifest, self._c.key_groups)
        if manifest.epoch:
            log.info("attempt %d recovers from checkpoint %d", self._recovery.attempt, manifest.epoch)
        # The processes need most of the time, so they start before anything else is looked up.
        self._cluster.start()
        splits = self._sources.resume(manifest)
        for uid, node in self._c.graph.sinks().items():
            previous = manifest.targets.get(uid)
            self._targets[uid] = dict(node.sink.prepare(self._c.job, manifest.job_uid, uid, previous))
        ids = assembly.sink_ids(manifest, self._c.graph, self._s.workers, self._s.delivery)
        layout = frozenset(
            (uid, i)
            for uid, node in self._c.graph.sinks().items()
            if (node.sink.delivery or self._s.delivery) != AT_LEAST_ONCE
            for i in range(self._s.workers)
        )
        self._books = Books({(s.sink_uid, s.subtask): s.committed for s in ids}, layout)
        self._books.add(manifest.committables)
        self._base = dict(manifest.counters)
        if self._c.status.before is None:
            self._c.status.before = self._base
        now = time.monotonic()
        for worker in self._cluster.workers:
            self._heard[worker.index] = now
            self._selector.register(worker.control, selectors.EVENT_READ, worker)
            worker.send(
                Setup(
                    reference=self._c.reference,
                    job=self._c.job,
                    job_uid=manifest.job_uid,
                    attempt=self._recovery.attempt,
                    subtask=worker.index,
                    parallelism=self._s.workers,
                    key_groups=self._c.key_groups,
                    epoch=manifest.epoch,
                    settings=self._s,
                    splits=[s for s in splits if assembly.owner(s.index, self._s.workers) == worker.index],
                    states=list(manifest.states),
                    sinks=[
                        s
                        for s in ids
                        if s.sink_uid in self._targets and assembly.owner(s.subtask, self._s.workers) == worker.index
                    ],
                    targets=self._targets,
                    watermarks=manifest.watermarks,
                    peers=self._cluster.peers,
                    token=self._cluster.token,
                )
            )
        failpoint("coordinator.workers-started")

    @property
    def _newest(self) -> Manifest:
        if self._manifest is None:
            raise AssertionError("the newest manifest was not read yet")
        return self._manifest

    def _commit_pending(self) -> None:
        failpoint("coordinator.before-commit-pending")
        for worker in self._cluster.workers:
            mine = [
                c for c in self._books.outstanding if assembly.owner(c.subtask, self._s.workers) == worker.index
            ]
            worker.send(CommitPending(mine))
        if self._books.outstanding:
            log.info("committing pending output of %d sink subtasks", len(self._books.pending))

    def _pending_event(self) -> object | None:
        return None if self._books.outstanding else rc.PendingCommitted()

    def _run_sources(self) -> None:
        failpoint("coordinator.before-run")
        self._checkpoints = cp.Checkpoints(
            self._newest.epoch + 1, frozenset(range(self._s.workers)), self._s.tolerate_failed_checkpoints
        )
        self._due_at = time.monotonic() + self._s.checkpoint_interval_s
        self._tell_all(Run())
        self._c.status.count(self._base)
        self._rate = (time.monotonic(), self._c.status.rows_in)
        self._phase("running")

    # Messages from workers.

    def _hear(self, worker: WorkerProcess) -> None:
        frames = worker.control.receive_ready()
        if frames is None:
            code = worker.process.wait(timeout=5.0)
            self._end("failed", WorkerLostError(f"worker {worker.index} (pid {worker.process.pid}) {_exit_text(code)}"))
            return
        self._heard[worker.index] = time.monotonic()
        for frame in frames:
            if self._ended is None:
                self._message(worker.index, decode_to_coordinator(frame))

    def _message(self, index: int, message: ToCoordinator) -> None:
        match message:
            case Progress():
                self._progress[index] = message
            case Ack():
                self._acknowledged(index, message)
            case Committed(sink_uid, subtask, epoch):
                self._committed((sink_uid, subtask), epoch)
            case TryFailed(epoch, tries, reason):
                log.warning("checkpoint %d try %d failed in worker %d: %s", epoch, tries, index, reason)
                self._checkpoint(cp.TryFailed(epoch, tries, reason))
            case Fenced(committed):
                for uid, epochs in committed.items():
                    for subtask, epoch in epochs.items():
                        self._books.done((uid, subtask), epoch)
                self._recover(self._recovery.on(rc.WorkerFenced(index)))
            case SourcesFinished():
                self._finished.add(index)
            case Failed():
                self._failed(index, message)

    def _failed(self, index: int, message: Failed) -> None:
        if message.exit_code == FencedError.exit_code:
            newest = max(self._c.log.attempts())
            if newest > self._recovery.attempt:
                self._end("failed", self._fenced_by(newest))
                return
            error = TidegateError(message.message, hint="no newer attempt exists: recovering under a new attempt number")
            error.retryable = True
        else:
            error = TidegateError(f"worker {index}: {message.message}", hint=message.hint)
            error.retryable = message.retryable
            error.exit_code = message.exit_code
        self._end("failed", error)

    def _fenced_by(self, newer: int) -> FencedError:
        return FencedError(
            f"attempt {self._recovery.attempt} found attempt {newer} and stopped; "
            f"another coordinator runs job '{self._c.job}'"
        )

    def _committed(self, key: assembly.SinkId, epoch: int) -> None:
        self._books.done(key, epoch)
        if self._recovery.phase is rc.Phase.COMMITTING:
            event = self._pending_event()
            if event is not None:
                self._recover(self._recovery.on(event))
            return
        self._after_commit()

    def _after_commit(self) -> None:
        through = self._books.committed_through(self._newest.epoch)
        if through <= self._committed_told or self._recovery.phase is not rc.Phase.RUNNING:
            return
        failpoint("coordinator.committed")
        self._committed_told = through
        self._c.status.committed = through
        self._books.retire(through)
        at = _now_ms()
        self._catalog(lambda: self._c.catalog.committed(through, at))
        if through == self._newest.epoch:
            self._sources.report(self._newest)
        if through >= self._retire_at:
            self._retire_at = through + RETIRE_EVERY
            self._retire()

    def _retire(self) -> None:
        retirement = self._retirement
        if retirement is None:
            retirement = self._c.runtime.open_retirement(self._c.log, self._recovery.attempt, self._s.retain)
            self._retirement = retirement

        def work() -> None:
            failpoint("coordinator.before-retire")
            retired = retirement.retire()
            if retired.reason:
                log.warning("nothing was retired: %s", retired.reason)
            if retired.epochs:
                self._catalog(lambda: self._c.catalog.retired(list(retired.epochs)))

        self._c.background.try_run("retire", work)

    # Checkpoints.

    def _checkpoint(self, event: object) -> None:
        if self._checkpoints is None:
            return
        for instruction in self._checkpoints.on(event):
            self._obey_checkpoint(instruction)

    def _obey_checkpoint(self, instruction: cp.Instruction) -> None:
        match instruction:
            case cp.SendBarriers(epoch, tries, kind):
                self._send_barriers(epoch, tries, kind)
            case cp.Abandon(epoch, tries, reason):
                self._c.status.failed_checkpoints += 1
                self._catalog(lambda: self._c.catalog.failed(epoch, tries, reason))
                self._tell_all(AbandonTry(epoch, tries))
                self._due_at = time.monotonic() + self._s.min_pause_s
            case cp.Decide(epoch, tries, kind):
                self._decide(epoch, tries, kind)
            case cp.ResolveLater():
                self._resolve_at = time.monotonic() + RESOLVE_PAUSE_S
            case cp.Announce(epoch, tries, kind):
                self._announce(epoch, tries, kind)
            case cp.GiveUp(reason):
                error = WorkerLostError(reason, hint="see the warnings above; the job recovers from the last checkpoint")
                self._end("failed", error)
            case cp.StandDown(epoch):
                newer = max(self._c.log.attempts())
                log.warning("epoch %d was decided by another attempt", epoch)
                if newer > self._recovery.attempt:
                    self._end("failed", self._fenced_by(newer))
                else:
                    self._end("start-over")

    def _send_barriers(self, epoch: int, tries: int, kind: Kind) -> None:
        failpoint("coordinator.before-barriers")
        self._acks = {}
        self._try_started = time.monotonic()
        new = self._sources.hand_out()
        for worker in self._cluster.workers:
            mine = [s for s in new if assembly.owner(s.index, self._s.workers) == worker.index]
            if mine:
                self._finished.discard(worker.index)
            worker.send(SendBarrier(epoch, tries, mine, last=kind is Kind.FINAL and self._stop))

    def _acknowledged(self, index: int, ack: Ack) -> None:
        checkpoints = self._checkpoints
        if checkpoints is not None and (ack.epoch, ack.tries) == (checkpoints.epoch, checkpoints.tries):
            self._acks[index] = ack
            self._checkpoint(cp.Acknowledged(index, ack.epoch, ack.tries))

    def _decide(self, epoch: int, tries: int, kind: Kind) -> None:
        """Write the manifest in the background; while its outcome is unknown, exactly the same manifest again."""
        if self._deciding is None:
            failpoint("coordinator.all-acknowledged")
            self._collected = time.monotonic()
            acks = [self._acks[index] for index in sorted(self._acks)]
            counters = dict(self._base)
            for ack in acks:
                for name, value in ack.counters.items():
                    counters[name] = counters.get(name, 0) + value
            self._deciding = assembly.next_manifest(
                self._newest, epoch, tries, kind, acks, self._sources.given, self._books,
                counters=counters, **self._about(),
            )  # fmt: skip
        manifest = self._deciding
        self._c.background.run("decide", lambda: self._write(manifest), self._decided, self._undecided)

    def _about(self) -> dict[str, object]:
        return {
            "attempt": self._recovery.attempt,
            "writer": _writer(),
            "created_ms": _now_ms(),
            "parallelism": self._s.workers,
            "delivery": self._s.delivery,
            "targets": {uid: self._targets.get(uid, {}) for uid in self._targets},
        }

    def _write(self, manifest: Manifest) -> bool:
        # Not for safety, which the name's lock gives, but so that an attempt that was replaced stops by itself.
        newest = max(self._c.log.attempts())
        if newest > self._recovery.attempt:
            raise self._fenced_by(newest)
        won = self._c.log.decide(manifest)
        failpoint("coordinator.manifest-written")
        return won

    def _decided(self, won: bool) -> None:
        if self._ended is not None:
            return
        self._checkpoint(cp.DecisionWon() if won else cp.DecisionLost())

    def _undecided(self, error: Exception) -> None:
        if isinstance(error, TidegateError) and error.retryable:
            self._checkpoint(cp.DecisionUnknown(str(error)))
        elif isinstance(error, TidegateError):
            self._end("failed", error)
        else:
            raise error

    def _announce(self, epoch: int, tries: int, kind: Kind) -> None:
        failpoint("coordinator.before-announce")
        manifest = self._deciding
        if manifest is None:
            raise AssertionError("an epoch is announced only after its manifest was written")
        self._deciding = None
        self._manifest = manifest
        self._decided_count += 1
        if self._retirement is not None:
            retirement = self._retirement
            self._c.background.try_run("retire", lambda: retirement.remember(manifest))
        self._books.add([c for c in manifest.committables if c.epoch == epoch])
        self._books.decided(epoch)
        self._tell_all(Decided(epoch, tries))
        failpoint("coordinator.after-announce")
        now = time.monotonic()
        durations = {"collect": (self._collected - self._try_started) * 1000, "decide": (now - self._collected) * 1000}
        for step in ("align", "upload"):
            durations[step] = max((ack.durations_ms.get(step, 0.0) for ack in self._acks.values()), default=0.0)
        status = self._c.status
        status.epoch = epoch
        status.last_checkpoint_ms = (now - self._try_started) * 1000
        files = [*manifest.states, *(c for c in manifest.committables if c.epoch == epoch)]
        status.last_checkpoint_bytes = sum(
            f.file.size if hasattr(f, "file") else sum(s.size for s in f.segments) for f in files
        )
        log.debug("checkpoint %d decided in %.0f ms", epoch, status.last_checkpoint_ms)
        self._catalog(lambda: self._c.catalog.decided(manifest, durations, kind.value))
        self._due_at = max(self._try_started + self._s.checkpoint_interval_s, now + self._s.min_pause_s)
        if kind is Kind.FINAL:
            self._closing = True
        self._after_commit()

    # Timers.

    def _timers(self) -> None:
        now = time.monotonic()
        self._check_alive(now)
        if now >= self._report_at:
            self._report_at = now + REPORT_INTERVAL_S
            self._report(now)
        checkpoints = self._checkpoints
        if checkpoints is None:
            if self._stop:
                self._end("stopped")
            return
        self._sources.look(now)
        if self._resolve_at is not None and now >= self._resolve_at:
            self._resolve_at = None
            self._checkpoint(cp.ResolveDue())
        if checkpoints.phase is cp.Phase.IDLE:
            self._trigger(now)
        elif checkpoints.phase is cp.Phase.COLLECTING and now - self._try_started > self._s.checkpoint_timeout_s:
            missing = sorted(checkpoints.waiting)
            reason = f"no acknowledgement from workers {missing} within {self._s.checkpoint_timeout_s:g} s"
            log.warning("checkpoint %d try %d timed out: %s", checkpoints.epoch, checkpoints.tries, reason)
            self._checkpoint(cp.TryFailed(checkpoints.epoch, checkpoints.tries, reason))

    def _trigger(self, now: float) -> None:
        if self._closing:
            self._close(now)
            return
        all_finished = len(self._finished) == self._s.workers and not self._sources.waiting
        if self._stop or all_finished:
            self._phase("stopping" if self._stop else "finishing")
            self._stop_since = self._stop_since or now
            if now >= self._due_at or self._checkpoints is None or self._checkpoints.tries == 0:
                self._checkpoint(cp.Due(Kind.FINAL))
        elif now >= self._due_at:
            self._checkpoint(cp.Due())

    def _close(self, now: float) -> None:
        """After the final epoch: wait until all output is committed, then write down that nothing is pending."""
        if self._books.outstanding:
            if self._stop_since is not None and now - self._stop_since > self._s.stop_timeout_s:
                rows = sum(c.rows for c in self._books.outstanding)
                message = f"{rows} records of decided output are not committed after {self._s.stop_timeout_s:g} s"
                hint = "nothing is lost: the next start of this job commits them first"
                self._end("failed", TidegateError(message, hint=hint))
            return
        failpoint("coordinator.before-closing-manifest")
        kind = Kind.STOPPED if self._stop else Kind.FINISHED
        if self._deciding is None:
            self._deciding = assembly.closing_manifest(self._newest, kind, self._books, **self._about())
        manifest = self._deciding
        try:
            won = self._write(manifest)
        except TidegateError as error:
            if not error.retryable or (self._stop_since or now) + self._s.stop_timeout_s < now:
                raise
            log.warning("the closing manifest is not written yet: %s", error)
            return
        if not won:
            self._end("start-over")
            return
        self._catalog(lambda: self._c.catalog.decided(manifest, {}, kind.value))
        self._catalog(lambda: self._c.catalog.committed(manifest.epoch, manifest.created_ms))
        self._c.status.epoch = self._c.status.committed = manifest.epoch
        self._c.status.count(manifest.counters)
        self._end("stopped" if self._stop else "finished")

    def _check_alive(self, now: float) -> None:
        running = self._recovery.phase is rc.Phase.RUNNING
        bound = self._s.worker_timeout_s if running else SETUP_TIMEOUT_S
        for worker in self._cluster.workers:
            quiet = now - self._heard.get(worker.index, now)
            if quiet > bound:
                text = f"worker {worker.index} (pid {worker.process.pid}) has been silent for {quiet:.0f} s"
                self._end("failed", WorkerLostError(text, hint="it is killed and the job recovers"))
        if not running and now - self._started > SETUP_TIMEOUT_S and self._cluster.workers and not self._books.outstanding:
            waiting = sorted(self._recovery.waiting)
            text = f"workers {waiting} were not set up within {SETUP_TIMEOUT_S:.0f} s"
            self._end("failed", WorkerLostError(text))

    def _report(self, now: float) -> None:
        status, progress = self._c.status, list(self._progress.values())
        status.count({name: self._base.get(name, 0) + sum(getattr(p, name) for p in progress) for name in COUNTED})
        status.backlog_bytes = sum(p.backlog_bytes for p in progress)
        status.state_rows = sum(p.state_rows for p in progress)
        status.state_bytes = sum(p.state_bytes for p in progress)
        status.watermark = min((p.watermark for p in progress if p.watermark is not None), default=None)
        status.caught_up = bool(progress) and all(p.caught_up for p in progress)
        before, rows = self._rate
        if now - before >= 1.0:
            status.rows_per_s = max(status.rows_in - rows, 0) / (now - before)
            self._rate = (now, status.rows_in)
        self._c.report(status)

    def _phase(self, phase: str) -> None:
        if self._c.status.phase == phase:
            return
        self._c.status.phase = phase
        about: Mapping[str, object] = {"workers": self._s.workers}
        attempt = self._recovery.attempt
        self._catalog(lambda: self._c.catalog.attempt(attempt, phase, about))
        self._c.report(self._c.status)

    def _tell_all(self, message: CommitPending | Run | AbandonTry | Decided | Leave) -> None:
        for worker in self._cluster.workers:
            worker.send(message)

    def _catalog(self, work: object) -> None:
        if callable(work):
            self._c.background.try_run("catalog", work)


def _writer() -> str:
    return secrets.token_hex(12)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _exit_text(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
