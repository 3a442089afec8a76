"""The shell around the recovery machine: claims, reads, starts workers, lets them commit before anything is read."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from typing import Final

from . import assembly
from .assembly import Books
from .cluster import WorkerProcess
from .context import Facts, new_writer, now_ms
from .errors import WorkerLostError
from .failpoints import failpoint
from .messages import CommitPending, Fenced, Run, Setup
from .protocol import recovery as rc
from .protocol.manifest import Kind, Manifest, SinkSubtask, SplitPosition

log = logging.getLogger(__name__)

SETUP_TIMEOUT_S: Final = 120.0
"""How long workers may take to load the job, restore state, fence and read the ledger."""


class Recovering:
    """Brings an attempt from its number to running; `listen` is called for every worker, `run` once at the end."""

    def __init__(self, facts: Facts, listen: Callable[[WorkerProcess], None], run: Callable[[], None]) -> None:
        self._f = facts
        self._c = facts.context
        self._workers = facts.context.settings.workers
        self._machine = rc.Recovery(self._workers)
        self._listen = listen
        self._run = run
        self._started = time.monotonic()

    @property
    def running(self) -> bool:
        """Whether sources read."""
        return self._machine.phase is rc.Phase.RUNNING

    def begin(self) -> None:
        """Take the first steps, up to workers that fence."""
        self._feed(rc.Begin(self._f.highest_attempt()))

    def fenced(self, worker: int, message: Fenced) -> None:
        """Take in that a worker has fenced and read."""
        for uid, epochs in message.committed.items():
            for subtask, epoch in epochs.items():
                self._f.books.done((uid, subtask), epoch)
        self._feed(rc.WorkerFenced(worker))

    def committed(self) -> None:
        """Look whether all pending output is committed now."""
        if self._machine.phase is rc.Phase.COMMITTING and not self._f.books.outstanding:
            self._feed(rc.PendingCommitted())

    def check_time(self, now: float) -> None:
        """End the attempt if workers are not set up in time."""
        slow = self._machine.phase is rc.Phase.FENCING and now - self._started > SETUP_TIMEOUT_S
        if slow:
            text = f"workers {sorted(self._machine.waiting)} were not set up within {SETUP_TIMEOUT_S:.0f} s"
            self._f.end(
                "failed", WorkerLostError(text, hint="see their log; a broker or store that is away slows them")
            )

    def _feed(self, event: object) -> None:
        instructions = self._machine.on(event)
        while instructions:
            answer = self._obey(instructions.pop(0))
            if answer is not None:
                instructions += self._machine.on(answer)

    def _obey(self, instruction: rc.Instruction) -> object | None:
        answer: object | None = None
        match instruction:
            case rc.ClaimAttempt(attempt):
                answer = self._claim(attempt)
            case rc.ReadNewest():
                self._f.manifest = self._c.log.newest()
                answer = rc.NewestRead(None if self._f.manifest is None else self._f.manifest.epoch)
            case rc.WriteIdentity():
                answer = rc.IdentityWritten(self._write_identity())
            case rc.StartWorkers():
                self._start_workers()
            case rc.ListAgain():
                failpoint("coordinator.fenced-before-relist")
                answer = rc.Relisted(max(self._c.log.epochs()), self._f.highest_attempt())
            case rc.CommitPending():
                answer = self._commit_pending()
            case rc.Run():
                failpoint("coordinator.before-run")
                self._f.tell_all(Run())
                self._run()
            case rc.StartOver(epoch):
                log.info("epoch %d was decided by somebody else while fencing; recovering again", epoch)
                self._f.end("start-over")
            case rc.StandDown(newer):
                self._f.end("failed", self._f.fenced_by(newer))
        return answer

    def _claim(self, attempt: int) -> object:
        about = {"attempt": attempt, "job": self._c.job, "workers": self._workers, "started_ms": now_ms()}
        if not self._c.log.claim(attempt, about):
            return rc.ClaimLost()
        self._f.number = self._c.status.attempt = attempt
        self._f.phase("recovering")
        failpoint("coordinator.attempt-claimed")
        return rc.Claimed()

    def _write_identity(self) -> bool:
        settings = self._c.settings
        manifest = Manifest(
            job=self._c.job,
            job_uid=secrets.token_hex(8),
            epoch=0,
            attempt=self._f.number,
            tries=1,
            kind=Kind.START,
            delivery=settings.delivery,
            writer=new_writer(),
            parallelism=self._workers,
            key_groups=self._c.key_groups,
            created_ms=now_ms(),
            splits=tuple(self._f.sources.first()),
            until_end=settings.until_end,
        )
        ours = self._c.log.decide(manifest)
        if ours:
            self._f.catalog(lambda: self._c.catalog.decided(manifest, {}, Kind.START.value))
        failpoint("coordinator.identity-written")
        return ours

    def _start_workers(self) -> None:
        manifest = self._f.newest
        if manifest.kind is Kind.FINISHED:
            log.info("job '%s' finished at epoch %d, nothing is left to do", self._c.job, manifest.epoch)
            self._c.status.epoch = self._c.status.committed = manifest.epoch
            self._f.end("finished")
            return
        assembly.check_fits(manifest, self._c.graph)
        assembly.check_key_groups(manifest, self._c.key_groups)
        assembly.check_drained(manifest, self._c.exact_sinks())
        if manifest.epoch:
            log.info("recovering from checkpoint %d", manifest.epoch)
        # The processes take most of the time, so they start before anything else is looked up.
        self._f.cluster.start()
        splits = self._f.sources.resume(manifest)
        for uid, node in self._c.graph.sinks().items():
            previous = manifest.targets.get(uid)
            self._f.targets[uid] = dict(node.sink.prepare(self._c.job, manifest.job_uid, uid, previous))
        exact = self._c.exact_sinks()
        ids = assembly.sink_ids(manifest, exact, self._workers)
        layout = frozenset((uid, subtask) for uid in exact for subtask in range(self._workers))
        self._f.books = Books({(s.sink_uid, s.subtask): s.committed for s in ids}, layout)
        self._f.books.add(manifest.committables)
        for worker in self._f.cluster.workers:
            self._listen(worker)
            worker.send(self._setup(worker.index, manifest, splits, ids))
        failpoint("coordinator.workers-started")

    def _setup(self, index: int, manifest: Manifest, splits: list[SplitPosition], ids: list[SinkSubtask]) -> Setup:
        return Setup(
            reference=self._c.reference,
            job=self._c.job,
            job_uid=manifest.job_uid,
            attempt=self._f.number,
            subtask=index,
            parallelism=self._workers,
            key_groups=self._c.key_groups,
            epoch=manifest.epoch,
            settings=self._c.settings,
            splits=[s for s in splits if assembly.owner(s.index, self._workers) == index],
            states=list(manifest.states),
            sinks=[
                s for s in ids if s.sink_uid in self._f.targets and assembly.owner(s.subtask, self._workers) == index
            ],
            targets=self._f.targets,
            watermarks=manifest.watermarks,
            peers=self._f.cluster.peers,
            token=self._f.cluster.token,
        )

    def _commit_pending(self) -> object | None:
        failpoint("coordinator.before-commit-pending")
        pending = self._f.books.outstanding
        if not pending:
            return rc.PendingCommitted()
        log.info("committing pending output of epochs up to %d", max(c.epoch for c in pending))
        for worker in self._f.cluster.workers:
            mine = [c for c in pending if assembly.owner(c.subtask, self._workers) == worker.index]
            worker.send(CommitPending(mine))
        return None
