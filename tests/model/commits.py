"""What the commit threads and the broker can do next: each step is one call, with every outcome that it can have."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from tidegate.engine.ports.sink import CommitOutcome, LedgerEntry
from tidegate.engine.protocol import commit as cy

from model.attempt import Attempt, Cycle
from model.steps import COMMIT, TIMEOUT, Fault, Process, Step
from model.world import NOBODY, Broker, Part


class Committers:
    """The steps of a process's commit threads."""

    def __init__(self, process: Process) -> None:
        self._p = process

    def steps(self, number: int, broker: Broker) -> Iterator[Step]:
        """Return the next steps."""
        attempt = self._p.peek(number)
        if attempt is not None:
            for subtask, cycle in attempt.cycles.items():
                if cycle.todo:
                    yield from _Call(self._p, number, broker, attempt, subtask, cycle).steps()


class _Call:
    """The next call of one commit thread."""

    def __init__(
        self, process: Process, number: int, broker: Broker, attempt: Attempt, subtask: int, cycle: Cycle
    ) -> None:
        self._p, self._number, self._broker = process, number, broker
        self._attempt, self._subtask, self._cycle = attempt, subtask, cycle
        self._departs = process.departs
        # Without a fence each process has transactional ids of its own.
        unfenced = self._departs("nothing is fenced")
        self._index = subtask + process.slot * len(broker.visible) if unfenced else subtask
        self._id = broker.ids[self._index]

    def steps(self) -> Iterator[Step]:
        """Return the steps that are possible now; none while the call waits."""
        calls = {"fence": self._fence, "read": self._read, "begin": self._begin, "rest": self._rest, "end": self._end}
        return calls[self._cycle.todo]()

    def _step(
        self,
        text: str,
        *events: Hashable,
        broker: Broker | None = None,
        fault: Fault | None = None,
        cycle: dict[str, Hashable] | None = None,
    ) -> Step:
        changes = tuple((cycle or {}).items())

        def move(attempt: Attempt) -> None:
            for name, value in changes:
                setattr(attempt.cycles[self._subtask], name, value)
            for event in events:
                attempt.commit(self._subtask, event)

        after = self._p.after(self._number, move, (self._subtask, events, changes))
        text = f"attempt {self._attempt.number}, subtask {self._subtask}: {text}"
        return Step(text, after, broker or self._broker, fault)

    def _fence(self) -> Iterator[Step]:
        cycle = self._cycle
        early = self._departs("the ledger is read before the fence")
        if early and not cycle.read:
            if self._broker.stable:
                entry = self._broker.ledger[self._subtask]
                yield self._step(f"reads before it fences: {_shown(entry)}", cycle={"entry": entry, "read": True})
            return
        if cycle.read and self._departs("a producer is used again after an unknown commit"):
            yield self._step("keeps its producer", cy.FenceMade())
            return
        if self._foreign and self._departs("only the ids of the new layout are fenced"):
            yield self._step("does not fence", cy.FenceMade())
            return
        fenced = self._broker.init(self._index, self._p.slot)
        if fenced is None:
            return
        if early:
            yield self._step("fences", cy.FenceMade(), cy.LedgerRead(cycle.entry), broker=fenced, cycle={"read": False})
        elif cycle.read and self._departs("a new fence is made without a second read"):
            events = (cy.FenceMade(), cy.LedgerRead(cycle.entry))
            yield self._step("fences and does not read", *events, broker=fenced)
        else:
            yield self._step("fences", cy.FenceMade(), broker=fenced)

    @property
    def _foreign(self) -> bool:
        return self._subtask >= self._p.about.parallelism

    def _read(self) -> Iterator[Step]:
        hasty = self._departs("the ledger is read without waiting for the stable offset")
        if not self._broker.stable and not hasty:
            return
        entry = self._broker.up_to_stable(self._subtask)
        changes: dict[str, Hashable] = {}
        if self._departs("a new fence is made without a second read"):
            changes = {"read": True, "entry": entry}
        elif self._departs("a producer is used again after an unknown commit"):
            changes = {"read": True}
        yield self._step(f"reads the ledger: {_shown(entry)}", cy.LedgerRead(entry), cycle=changes)

    def _begin(self) -> Iterator[Step]:
        broker, epoch = self._broker, self._cycle.epoch
        if self._id.owner != self._p.slot:
            # A producer must fence before it can write, whenever that is.
            late = self._foreign and self._departs("only the ids of the new layout are fenced")
            fenced = broker.init(self._index, self._p.slot) if late else None
            if fenced is None:
                if not late:
                    yield self._step(f"finds itself fenced before epoch {epoch}", cy.FencedOff())
                return
            broker = fenced
        held = broker.ids[self._index]
        if held.open is not None and held.open.ending:
            return
        output = next(output for output in self._cycle.files if output.epoch == epoch)
        # Only a late end can tell a half-written transaction from a whole one, so without one it is written at once.
        written = broker.write(self._index, Part(output, self._attempt.number, not held.late))
        text = f"writes {'half of ' if held.late else ''}epoch {epoch} into a transaction"
        yield self._step(text, broker=written, cycle={"todo": "rest" if held.late else "end"})

    def _rest(self) -> Iterator[Step]:
        if self._id.owner != self._p.slot or self._id.open is None or self._id.open.ending:
            yield self._step("finds its transaction gone", cy.FencedOff())
        else:
            yield self._step(
                "writes the other half", broker=self._broker.close_part(self._index), cycle={"todo": "end"}
            )

    def _end(self) -> Iterator[Step]:
        broker, epoch = self._broker, self._cycle.epoch
        if self._id.owner != self._p.slot or self._id.open is None:
            yield self._step(f"finds itself fenced when it ends epoch {epoch}", cy.FencedOff())
            return
        done = broker.end(self._index)
        yield self._step(f"commits epoch {epoch}", cy.CommitTried(CommitOutcome.COMMITTED), broker=done)
        late = broker.with_id(self._index, late=True)
        yield self._unknown(f"commits epoch {epoch}, the answer is lost, a copy is under way", late.end(self._index))
        yield self._unknown(f"commits epoch {epoch}, the request is late, no answer comes", late)
        failed = cy.CommitTried(CommitOutcome.FAILED)
        yield self._step(f"cannot commit epoch {epoch}", failed, broker=broker, fault=COMMIT)

    def _unknown(self, text: str, broker: Broker) -> Step:
        if self._departs("an unknown commit is taken for committed"):
            return self._step(text, cy.CommitTried(CommitOutcome.COMMITTED), broker=broker, fault=COMMIT)
        if self._departs("an unknown commit is taken for failed"):
            return self._step(text, broker=broker.abort(self._index), fault=COMMIT, cycle={"todo": "begin"})
        return self._step(text, cy.CommitTried(CommitOutcome.UNKNOWN), broker=broker, fault=COMMIT)


def broker_steps(broker: Broker) -> Iterator[tuple[str, Broker, Fault | None]]:
    """Return what the broker does by itself."""
    for index, entry in enumerate(broker.ids):
        name = f"broker, id {index}:"
        if entry.open is None:
            continue
        if entry.open.ending:
            yield f"{name} output and ledger entry become visible", broker.complete(index), None
            continue
        if entry.late:
            yield f"{name} the late end arrives", broker.with_id(index, late=False).end(index), None
        gone = broker.with_id(index, owner=NOBODY, open=None, late=False)
        yield f"{name} the transaction is timed out, its producer fenced", gone, TIMEOUT


def _shown(entry: LedgerEntry | None) -> str:
    return "nothing" if entry is None else f"epoch {entry.epoch} of attempt {entry.attempt}"
