"""The simulated commit thread of a worker: drives the product's commit cycles against the simulated broker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidegate.engine.ports.sink import CommitOutcome, LedgerEntry
from tidegate.engine.protocol import commit as cycle

from .outside import Gone
from .rules import Rules
from .world import ViolationError, World

if TYPE_CHECKING:
    from .worker import Worker

Rows = list[tuple[int, int]]


class Commits:
    """The commit cycles of the sink subtasks that one worker owns."""

    def __init__(
        self,
        worker: Worker,
        world: World,
        store: Any,
        broker: Any,
        rules: Rules,
        attempt: int,
        epoch: int,
        known: dict[int, int],
    ) -> None:
        self.worker, self.world, self.store, self.broker, self.rules = worker, world, store, broker, rules
        self.attempt = attempt
        self.cycles = {i: cycle.CommitCycle(attempt, committed, epoch, ()) for i, committed in known.items()}
        self.payloads: dict[tuple[int, int], list[str] | Rows] = {}
        self.owners: dict[int, int] = {}
        self.early: dict[int, LedgerEntry | None] = {}
        self.ready = False

    def start(self) -> None:
        """Fence and read for all subtasks."""
        if not self.cycles:
            self._look_ready()
        for subtask in list(self.cycles):
            self.feed(subtask, cycle.Open())

    def decided(self, subtask: int, epoch: int, payload: list[str] | Rows) -> None:
        """Take output of a decided epoch: rows, or the names of its outboxes."""
        self.payloads[subtask, epoch] = payload
        self.feed(subtask, cycle.DecidedEpoch(epoch))

    def feed(self, subtask: int, event: object) -> None:
        """Give a cycle an event and do what it says."""
        machine = self.cycles[subtask]
        if not self.rules.commit_in_order and len(machine.queue) > 1:
            machine.queue = tuple(reversed(machine.queue))
        for instruction in machine.on(event):
            self._obey(subtask, instruction)
        self._look_ready()

    def _look_ready(self) -> None:
        done = {cycle.Phase.READY, cycle.Phase.STOPPED}
        if not self.ready and all(machine.phase in done for machine in self.cycles.values()):
            self.ready = True
            self.worker.commits_ready({subtask: machine.known for subtask, machine in self.cycles.items()})

    def _obey(self, subtask: int, instruction: cycle.Instruction) -> None:
        match instruction:
            case cycle.MakeFence():
                self._fence(subtask)
            case cycle.ReadLedger():
                self._read(subtask)
            case cycle.Commit(epoch):
                self._commit(subtask, epoch)
            case cycle.Done(epoch):
                self.worker.say_committed(subtask, epoch)
            case cycle.RetryLater():
                retry = (self.worker, "retry", subtask)
                self.world.later(retry, self.worker, "retry due", lambda: self.feed(subtask, cycle.RetryDue()))
            case cycle.Stop(newer, ahead, behind):
                if behind:
                    raise ViolationError(f"{self.worker.name}: {behind}")
                raced = newer is not None or ahead is not None
                self.worker.fail(f"stopped: {instruction}", fenced=not raced)

    def _unavailable(self, subtask: int) -> None:
        self.feed(subtask, cycle.Unavailable("no answer"))

    def _fence(self, subtask: int) -> None:
        self.early[subtask] = self.broker.ledger.get(subtask)
        reuse = not self.rules.new_producer_after_unknown and subtask in self.owners
        owner = self.owners[subtask] if reuse else self.world.fresh()

        def made(_: object) -> None:
            self.owners[subtask] = owner
            self.feed(subtask, cycle.FenceMade())

        def init() -> None:
            if not reuse:
                self.broker.init(subtask, owner)

        self.world.call(
            self.worker, "broker", f"init {subtask} as {owner}", init, made, lambda: self._unavailable(subtask)
        )  # fmt: skip

    def _read(self, subtask: int) -> None:
        def read() -> LedgerEntry | None:
            if not self.rules.read_ledger:
                return LedgerEntry(0, self.cycles[subtask].known) if self.cycles[subtask].known else None
            if not self.rules.read_ledger_after_fence:
                return self.early.pop(subtask, None)
            entry: LedgerEntry | None = self.broker.ledger.get(subtask)
            return entry

        self.world.call(
            self.worker, "broker", f"read ledger of {subtask}", read,
            lambda entry: self.feed(subtask, cycle.LedgerRead(entry)), lambda: self._unavailable(subtask),
        )  # fmt: skip

    def _commit(self, subtask: int, epoch: int) -> None:
        try:
            rows = self._load(self.payloads[subtask, epoch])
        except Gone as missing:
            if self.store.highest() == self.attempt:
                raise ViolationError(f"{self.worker.name}: outbox {missing} of epoch {epoch} is gone") from None
            self.worker.fail(f"outbox {missing} is gone", fenced=True)
            return
        owner, half = self.owners[subtask], len(rows) // 2
        entry = LedgerEntry(self.attempt, epoch)
        broker, world, worker = self.broker, self.world, self.worker

        def begun(fine: bool) -> None:
            if not fine:
                self.feed(subtask, cycle.FencedOff())
                return
            world.call(
                worker, "broker", f"write {subtask} epoch {epoch}",
                lambda: broker.complete(subtask, owner, entry, rows[half:]),
                completed, lambda: self._unavailable(subtask),
            )  # fmt: skip

        def completed(fine: bool) -> None:
            if not fine:
                self.feed(subtask, cycle.FencedOff())
                return
            world.call(
                worker, "broker", f"commit {subtask} epoch {epoch} as {owner}",
                lambda: broker.commit(subtask, owner), ended, lambda: self._unknown(subtask),
            )  # fmt: skip

        def ended(fine: bool) -> None:
            self.feed(subtask, cycle.CommitTried(CommitOutcome.COMMITTED) if fine else cycle.FencedOff())

        world.call(
            worker, "broker", f"begin {subtask} epoch {epoch} as {owner}",
            lambda: broker.begin(subtask, owner, entry, rows[:half]), begun, lambda: self._unavailable(subtask),
        )  # fmt: skip

    def _unknown(self, subtask: int) -> None:
        outcome = CommitOutcome.UNKNOWN
        if not self.rules.unknown_is_not_committed:
            outcome = CommitOutcome.COMMITTED
        elif not self.rules.unknown_is_not_failed:
            machine = self.cycles[subtask]
            machine.phase = cycle.Phase.COMMITTING
            self._commit(subtask, machine.queue[0])
            return
        self.feed(subtask, cycle.CommitTried(outcome))

    def _load(self, payload: list[str] | Rows) -> Rows:
        rows: Rows = []
        for part in payload:
            if isinstance(part, str):
                rows += self.store.read(part)
            else:
                rows.append(part)
        return rows
