"""A simulated coordinator of one attempt: the product's recovery and checkpoint machines, books and retention plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tidegate.engine import assembly
from tidegate.engine.assembly import Books
from tidegate.engine.messages import Ack
from tidegate.engine.protocol import checkpoint as cp
from tidegate.engine.protocol import recovery as rc
from tidegate.engine.protocol.manifest import Kind, Manifest, SplitPosition

from .outside import SPLITS, Broker, Store
from .plan import Plan
from .retiring import Retiring
from .rules import Rules
from .worker import SINK, Committed, Failed, Fenced, Finished, TryFailed, Worker
from .world import Process, ViolationError, World

TOLERATED: Final = 3
TRY_TICKS_MAX: Final = 60
RETIRE_EVERY: Final = 2


class Coordinator(Process):
    """One attempt. `ended` tells how: `finished`, `fenced` or `failed`; a failed one is followed by another."""

    def __init__(self, world: World, store: Store, broker: Broker, rules: Rules, plan: Plan, parallelism: int) -> None:
        super().__init__("coordinator ?")
        self.world, self.store, self.broker, self.rules = world, store, broker, rules
        self.plan, self.parallelism = plan, parallelism
        self.attempt = 0
        self.writer = world.fresh()
        self.ended = ""
        self.workers: list[Worker] = []
        self.manifest: Manifest | None = None
        self.books = Books({}, frozenset())
        self.recovery = rc.Recovery(parallelism)
        self.checkpoints: cp.Checkpoints | None = None
        self.acks: dict[int, Ack] = {}
        self.writing: Manifest | None = None
        self.finished: set[int] = set()
        self.final = False
        self.closing = False
        self.ticks = 0
        self.retiring: Retiring | None = None
        world.later((self, "begin"), self, "a coordinator starts", self._begin)

    @property
    def process(self) -> Process:
        """Return this very process."""
        return self

    # Ends.

    def end(self, how: str, why: str) -> None:
        """End the attempt and its workers."""
        if self.ended:
            return
        self.ended = how
        self.world.tell(f"{self.name} ended: {how} ({why})")
        self.world.kill(self)

    def on_killed(self) -> None:
        """Workers end when they notice that the connection is closed."""
        for worker in self.workers:
            self.world.send(self, worker, f"{worker.name} loses its coordinator", self._ender(worker))

    def _ender(self, worker: Worker) -> Callable[[], None]:
        return lambda: self.world.kill(worker)

    def _failed(self, why: str) -> None:
        newer = self.store.highest() > self.attempt
        self.end("fenced" if newer else "failed", why)

    # Recovery.

    def _begin(self) -> None:
        self.world.call(self, "store", "list attempts", self.store.highest, lambda n: self._recover(rc.Begin(n)))

    def _recover(self, event: object) -> None:
        for instruction in self.recovery.on(event):
            self._obey_recovery(instruction)

    def _obey_recovery(self, instruction: rc.Instruction) -> None:
        match instruction:
            case rc.ClaimAttempt(attempt):
                self.world.call(
                    self, "store", f"claim attempt {attempt}", lambda: self.store.claim(attempt, self.writer),
                    lambda won: self._claimed(attempt, won), lambda: self.end("failed", "claim unknown"),
                )  # fmt: skip
            case rc.ReadNewest():
                self.world.call(self, "store", "read the newest manifest", self.store.newest, self._read)
            case rc.WriteIdentity():
                splits = tuple(SplitPosition("in", str(i), i, 0, self.plan.records) for i in range(SPLITS))
                first = self._manifest(None, 0, Kind.START, splits=splits)
                self._decide(first, lambda won: self._recover(rc.IdentityWritten(won)), self._unwritten)
            case rc.StartWorkers():
                self._start_workers()
            case rc.ListAgain():
                self.world.call(
                    self, "store", "list again", lambda: (max(self.store.manifests), self.store.highest()),
                    lambda found: self._recover(rc.Relisted(*found)),
                )  # fmt: skip
            case rc.CommitPending():
                self._commit_pending()
            case rc.Run():
                self._run()
            case rc.StartOver(epoch):
                self.end("failed", f"epoch {epoch} was decided meanwhile")
            case rc.StandDown(newer):
                self.end("fenced", f"attempt {newer} exists")

    def _claimed(self, attempt: int, won: bool) -> None:
        if won:
            self.attempt, self.name = attempt, f"coordinator {attempt}"
        self._recover(rc.Claimed() if won else rc.ClaimLost())

    def _read(self, manifest: Manifest | None) -> None:
        self.manifest = manifest
        self._recover(rc.NewestRead(None if manifest is None else manifest.epoch))

    def _unwritten(self) -> None:
        self.end("failed", "whether manifest 0 was written is unknown")

    def _start_workers(self) -> None:
        manifest = self.newest
        if manifest.kind is Kind.FINISHED:
            self.end("finished", "nothing left to do")
            return
        ids = assembly.sink_ids(manifest, [SINK], self.parallelism)
        if not self.rules.fence_old_layouts:
            ids = [s for s in ids if s.subtask < self.parallelism]
        layout = frozenset((SINK, subtask) for subtask in range(self.parallelism))
        self.books = Books({(s.sink_uid, s.subtask): s.committed for s in ids}, layout)
        self.books.add(c for c in manifest.committables if self.rules.fence_old_layouts or c.subtask < self.parallelism)
        for index in range(self.parallelism):
            known = {s.subtask: s.committed for s in ids if assembly.owner(s.subtask, self.parallelism) == index}
            self.workers.append(Worker(self.world, self.store, self.broker, self.rules, self, index, manifest, known))
        for worker in self.workers:
            worker.peers = self.workers

    @property
    def newest(self) -> Manifest:
        """The newest manifest that this attempt knows."""
        assert self.manifest is not None
        return self.manifest

    def _commit_pending(self) -> None:
        pending = self.books.outstanding
        for worker in self.workers:
            mine = [c for c in pending if assembly.owner(c.subtask, self.parallelism) == worker.index]
            if mine:
                self._tell(
                    worker, f"commit pending {[(c.subtask, c.epoch) for c in mine]}", worker.commit_pending, mine
                )
        if not pending or not self.rules.commit_pending_before_reading:
            self._recover(rc.PendingCommitted())

    def _tell(self, worker: Worker, what: str, action: Callable[..., None], *arguments: object) -> None:
        self.world.send(self, worker, f"{worker.name} hears: {what}", lambda: action(*arguments))

    def _run(self) -> None:
        self.checkpoints = cp.Checkpoints(self.newest.epoch + 1, frozenset(range(self.parallelism)), TOLERATED)
        self.retiring = Retiring(self, self.plan.retain)
        for worker in self.workers:
            self._tell(worker, "run", worker.run)
        self._tick_later()

    # Messages of workers.

    def hear(self, worker: int, message: Any) -> None:
        """Take a worker's message."""
        if self.ended:
            return
        match message:
            case Fenced(committed):
                for subtask, epoch in committed.items():
                    self.books.done((SINK, subtask), epoch)
                self._recover(rc.WorkerFenced(worker))
            case Committed(subtask, epoch):
                self.books.done((SINK, subtask), epoch)
                self._committed()
            case Finished():
                self.finished.add(worker)
            case Failed(reason):
                self._failed(f"worker {worker}: {reason}")
            case Ack():
                self._acknowledged(worker, message)
            case TryFailed(epoch, tries):
                self._checkpoint(cp.TryFailed(epoch, tries, "upload failed"))

    def _committed(self) -> None:
        if self.recovery.phase is rc.Phase.COMMITTING and not self.books.outstanding:
            self._recover(rc.PendingCommitted())
        if self.recovery.phase is rc.Phase.RUNNING:
            self.books.retire(self.books.committed_through(self.newest.epoch))

    # Checkpoints.

    def _tick_later(self) -> None:
        self.world.later((self, "tick"), self, "tick", self._tick)

    def _tick(self) -> None:
        self.ticks += 1
        machine = self.checkpoints
        assert machine is not None
        if machine.phase is cp.Phase.IDLE and not self.final:
            ending = len(self.finished) == self.parallelism
            if self.ticks >= self.plan.pace or ending:
                self.ticks = 0
                self._checkpoint(cp.Due(Kind.FINAL if ending else Kind.PERIODIC))
        elif machine.phase is cp.Phase.COLLECTING and self.ticks > TRY_TICKS_MAX:
            self._checkpoint(cp.TryFailed(machine.epoch, machine.tries, "took too long"))
        if self.final and not self.closing and not self.books.outstanding:
            self.closing = True
            about = {"attempt": self.attempt, "writer": str(self.world.fresh()), "kind": Kind.FINISHED}
            closing = assembly.closing_manifest(self.newest, self.books, **about)
            self._decide(closing, self._closed, lambda: self._close_again(closing))
        self._tick_later()

    def _closed(self, won: bool) -> None:
        self.end("finished" if won else "failed", "closing manifest")

    def _close_again(self, manifest: Manifest) -> None:
        self._decide(manifest, self._closed, lambda: self._close_again(manifest))

    def _acknowledged(self, worker: int, ack: Ack) -> None:
        machine = self.checkpoints
        if machine is None:
            return
        if (ack.epoch, ack.tries) == (machine.epoch, machine.tries):
            self.acks[worker] = ack
        elif not self.rules.ignore_old_tries and ack.epoch == machine.epoch:
            self.acks.setdefault(worker, ack)
            self._checkpoint(cp.Acknowledged(worker, machine.epoch, machine.tries))
            return
        self._checkpoint(cp.Acknowledged(worker, ack.epoch, ack.tries))

    def _checkpoint(self, event: object) -> None:
        machine = self.checkpoints
        if machine is None or self.ended:
            return
        for instruction in machine.on(event):
            self._obey(instruction)

    def _obey(self, instruction: cp.Instruction) -> None:
        match instruction:
            case cp.SendBarriers(epoch, tries):
                self.acks = {}
                for worker in self.workers:
                    self._tell(worker, f"barrier {epoch} try {tries}", worker.barrier, epoch, tries)
            case cp.Abandon(epoch, tries):
                for worker in self.workers:
                    self._tell(worker, f"abandon {epoch} try {tries}", worker.abandon, epoch, tries)
            case cp.Decide(epoch, tries, kind):
                self._assemble(epoch, tries, kind)
            case cp.ResolveLater():
                self._resolve_later()
            case cp.Announce(epoch, tries, kind):
                self._announce(kind)
            case cp.GiveUp(reason):
                self.end("failed", reason)
            case cp.StandDown(epoch):
                self._failed(f"epoch {epoch} was decided by somebody else")

    def _resolve_later(self) -> None:
        self.world.later((self, "resolve"), self, "resolve due", lambda: self._checkpoint(cp.ResolveDue()))

    def _assemble(self, epoch: int, tries: int, kind: Kind) -> None:
        if self.writing is None:
            acks = [self.acks[index] for index in sorted(self.acks)]
            books = self.books if self.rules.carry_pending else replace(self.books, pending={})
            about = {"attempt": self.attempt, "writer": str(self.world.fresh()), "parallelism": self.parallelism}
            self.writing = assembly.next_manifest(
                self.newest, acks, {}, books, epoch=epoch, tries=tries, kind=kind, **about
            )
        if not self.rules.manifest_before_commit:
            self._announce_to_workers(self.writing)
        manifest = self.writing
        won = cp.DecisionWon()
        lost = cp.DecisionLost() if self.rules.lost_race_stops else won
        unknown = cp.DecisionUnknown("no answer") if self.rules.resolve_unknown_decisions else won
        self._decide(manifest, lambda ours: self._checkpoint(won if ours else lost), lambda: self._checkpoint(unknown))

    def _decide(self, manifest: Manifest, answer: Callable[[bool], None], unsure: Callable[[], None]) -> None:
        def look() -> None:
            self.world.call(self, "store", "list attempts", self.store.highest, looked)

        def looked(newest: int) -> None:
            if newest > self.attempt:
                self.end("fenced", f"attempt {newest} exists")
            else:
                self.world.call(self, "store", f"create manifest {manifest.epoch}", create, answer, unsure)

        def create() -> bool:
            won = self.store.decide(manifest)
            self.broker.decided = max(self.broker.decided, *self.store.manifests)
            return won

        look()

    def _announce(self, kind: Kind) -> None:
        manifest = self.writing
        assert manifest is not None
        self.writing = None
        self.manifest = manifest
        self.books.add(c for c in manifest.committables if c.epoch == manifest.epoch)
        self.books.decided(manifest.epoch)
        if self.rules.manifest_before_commit:
            self._announce_to_workers(manifest)
        self.final = kind is Kind.FINAL
        self.ticks = 0
        self._committed()
        if manifest.epoch % RETIRE_EVERY == 0 and self.retiring is not None:
            self.retiring.begin()

    def _announce_to_workers(self, manifest: Manifest) -> None:
        for worker in self.workers:
            self._tell(worker, f"decided {manifest.epoch}", worker.decided, manifest.epoch)

    def _manifest(self, previous: Manifest | None, epoch: int, kind: Kind, **fields: Any) -> Manifest:
        if previous is not None:
            raise ViolationError("only manifest 0 is written from nothing")
        return Manifest(
            "job", "uid", epoch, self.attempt, 1, kind, "exactly-once", str(self.world.fresh()), self.parallelism, 5, 0,
            **fields,
        )  # fmt: skip
