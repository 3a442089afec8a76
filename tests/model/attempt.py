"""One attempt in the model: the product's own machines and books, and the shell's local steps between them.

An attempt is thawed from a plain tuple, moved by one shared step and what follows from it locally, and frozen again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from tidegate.engine.assembly import Books, next_manifest, owner, sink_ids
from tidegate.engine.messages import Ack
from tidegate.engine.protocol import checkpoint as cp
from tidegate.engine.protocol import commit as cy
from tidegate.engine.protocol import recovery as rc

from model.values import SINK, Frozen, freeze_manifest, freeze_output, thaw_manifest, thaw_output
from model.world import Manifest, Output

TOLERATED: Final = 1

FRESH: Final[Frozen] = ("fresh",)
ENDED: Final[Frozen] = ("ended",)
CONTRADICTED: Final[Frozen] = ("contradicted",)


class EndedError(Exception):
    """The attempt ended, as this tuple says."""

    def __init__(self, how: Frozen = ENDED) -> None:
        super().__init__(how)
        self.how = how


@dataclass
class Cycle:
    """A commit cycle, the shell's next call to the sink, and what it holds."""

    machine: cy.CommitCycle
    todo: str = ""
    epoch: int = 0
    files: tuple[Output, ...] = ()
    entry: Any = None
    read: bool = False


@dataclass(frozen=True)
class About:
    """What a process is started with: workers, how many epochs there will be, and the rule that is not kept.

    `retires` says whether checkpoints retire: only then outboxes, and a look at the attempts before each write, can
    change anything. `rows` says whether epochs have output: one without has nothing to commit.
    """

    parallelism: int
    epochs: int
    departure: str
    retires: bool = False
    rows: bool = True


@dataclass
class Attempt:
    """Coordinator and workers of one attempt; `todo` is the coordinator's next call to the store."""

    about: About
    todo: str = "begin"
    number: int = 0
    recovery: rc.Recovery = field(default_factory=lambda: rc.Recovery(1))
    checkpoints: cp.Checkpoints | None = None
    newest: Manifest | None = None
    writing: Manifest | None = None
    books: Books | None = None
    cycles: dict[int, Cycle] = field(default_factory=dict)
    retiring: tuple[Any, ...] = ()

    # Recovery, as in engine/recovering.py.

    def recover(self, event: object) -> None:
        """Feed the recovery machine and obey it up to the next call to the store."""
        for instruction in self.recovery.on(event):
            match instruction:
                case rc.ClaimAttempt(number):
                    self.number, self.todo = number, "claim"
                case rc.ReadNewest():
                    self.todo = "read"
                case rc.StartWorkers():
                    self.todo = ""
                    self._start_workers()
                case rc.ListAgain():
                    self.todo = "list"
                case rc.CommitPending():
                    self.todo = ""
                    self._commit_pending()
                case rc.Run():
                    self._run()
                case _:  # StartOver, StandDown
                    raise EndedError

    def _start_workers(self) -> None:
        assert self.newest is not None
        real = thaw_manifest(self.newest)
        ids = sink_ids(real, [SINK], self.about.parallelism)
        layout = frozenset((SINK, subtask) for subtask in range(self.about.parallelism))
        self.books = Books({(s.sink_uid, s.subtask): s.committed for s in ids}, layout)
        self.books.add(real.committables)
        for s in ids:
            self.cycles[s.subtask] = Cycle(cy.CommitCycle(self.number, s.committed, real.epoch, ()))
            self.commit(s.subtask, cy.Open())

    def fenced(self) -> None:
        """Report each worker once all its ids are fenced and read."""
        if self.recovery.phase is not rc.Phase.FENCING or self.books is None:
            return
        for worker in sorted(self.recovery.waiting):
            mine = {i: c.machine for i, c in self.cycles.items() if owner(i, self.about.parallelism) == worker}
            if all(machine.phase is cy.Phase.READY for machine in mine.values()):
                for subtask, machine in mine.items():
                    self.books.done((SINK, subtask), machine.known)
                self.recover(rc.WorkerFenced(worker))

    def _commit_pending(self) -> None:
        assert self.books is not None
        pending = self.books.outstanding
        if not pending:
            self.recover(rc.PendingCommitted())
        elif self.about.departure == "epochs are committed out of order":
            pending = pending[::-1]
        # All events wait in the queues of the commit threads before the first of them is acted upon.
        for committable in pending:
            self.hand_over(freeze_output(committable))

    def _run(self) -> None:
        assert self.newest is not None
        workers = frozenset(range(self.about.parallelism))
        self.checkpoints = cp.Checkpoints(self.newest.epoch + 1, workers, TOLERATED)
        self._trigger()

    # Checkpoints, as in engine/checkpointing.py and engine/aftermath.py.

    def _trigger(self) -> None:
        assert self.checkpoints is not None
        self.todo = ""
        if self.checkpoints.epoch <= self.about.epochs:
            self.checkpoint(cp.Due())

    def checkpoint(self, event: object) -> None:
        """Feed the checkpoint machine and obey it up to the next call to the store."""
        assert self.checkpoints is not None
        for instruction in self.checkpoints.on(event):
            match instruction:
                case cp.SendBarriers():
                    self.todo = "seal"
                case cp.Abandon():
                    self._trigger()
                case cp.Decide():
                    self.todo = "look" if self.about.retires else "write"
                    self._assemble()
                case cp.ResolveLater():
                    self.checkpoint(cp.ResolveDue())
                case cp.Announce():
                    self._announce()
                case _:  # GiveUp, StandDown
                    raise EndedError

    def output(self, subtask: int) -> Output:
        """Return this subtask's output of the try in hand."""
        assert self.checkpoints is not None
        epoch, tries = self.checkpoints.epoch, self.checkpoints.tries
        return Output(subtask, epoch, f"outbox/{SINK}/{epoch}-{self.number}-{tries}-{subtask}.arrow")

    def _assemble(self) -> None:
        if self.writing is not None:
            return
        assert self.newest is not None
        assert self.books is not None
        assert self.checkpoints is not None
        own = [self.output(subtask) for subtask in range(self.about.parallelism) if self.about.rows]
        ack = Ack(self.checkpoints.epoch, self.checkpoints.tries, [], [], [thaw_output(o) for o in own], {}, {}, {})
        books = self.books
        if self.about.departure == "pending committables are forgotten":
            books = Books(books.committed, books.layout)
        self.writing = freeze_manifest(
            next_manifest(
                thaw_manifest(self.newest), [ack], {}, books,
                epoch=self.checkpoints.epoch, tries=self.checkpoints.tries, attempt=self.number,
            )
        )  # fmt: skip
        if self.about.departure == "an epoch is committed before its manifest is written":
            self._decided(self.writing)

    def _announce(self) -> None:
        assert self.writing is not None
        self.newest, self.writing = self.writing, None
        if self.about.departure != "an epoch is committed before its manifest is written":
            self._decided(self.newest)
        self._trigger()

    def _decided(self, manifest: Manifest) -> None:
        assert self.books is not None
        self.books.add(thaw_output(output) for output in manifest.own)
        self.books.decided(manifest.epoch)
        for output in manifest.own:
            self.hand_over(output)
        self._followed_up()

    def _followed_up(self) -> None:
        assert self.books is not None
        assert self.newest is not None
        if self.checkpoints is not None:
            self.books.retire(self.books.committed_through(self.newest.epoch))

    @property
    def has_followed_up(self) -> bool:
        """Whether an epoch that this very attempt decided is committed: only then it looks what may retire."""
        assert self.books is not None
        assert self.newest is not None
        return self.books.committed_through(self.newest.epoch) > self.recovery.epoch

    # Commits, as in engine/committer.py.

    def hand_over(self, output: Output) -> None:
        """Give a commit cycle output of a decided epoch."""
        cycle = self.cycles[output.subtask]
        cycle.files = (*cycle.files, output)
        self.commit(output.subtask, cy.DecidedEpoch(output.epoch))

    def commit(self, subtask: int, event: object) -> None:
        """Feed a commit cycle and obey it up to the next call to the sink."""
        cycle = self.cycles[subtask]
        if type(event) is not cy.DecidedEpoch:
            cycle.todo = ""
        for instruction in cycle.machine.on(event):
            match instruction:
                case cy.MakeFence():
                    cycle.todo = "fence"
                case cy.ReadLedger():
                    cycle.todo = "read"
                case cy.Commit(epoch):
                    cycle.todo, cycle.epoch = "begin", epoch
                case cy.Done(epoch):
                    self._done(subtask, epoch)
                case cy.RetryLater():
                    self.commit(subtask, cy.RetryDue())
                case cy.Stop(behind=behind):
                    raise EndedError(CONTRADICTED if behind else ENDED)

    def _done(self, subtask: int, epoch: int) -> None:
        assert self.books is not None
        cycle = self.cycles[subtask]
        cycle.files = tuple(output for output in cycle.files if output.epoch > epoch)
        if self.recovery.phase is rc.Phase.FENCING:
            return  # the coordinator hears of it when the worker is ready
        self.books.done((SINK, subtask), epoch)
        if self.recovery.phase is rc.Phase.COMMITTING and not self.books.outstanding:
            self.recover(rc.PendingCommitted())
        self._followed_up()
