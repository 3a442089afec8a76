"""The store and the broker of the model: immutable values, and what can happen to them in one atomic step.

They have the properties that the design relies on, and no others. What must never happen to them is noted in the field
`broken`, in the very step that does it.
"""

from __future__ import annotations

from typing import NamedTuple

from tidegate.engine.ports.sink import LedgerEntry

NOBODY = -1


TWICE = "an epoch's output is visible twice"
UNDECIDED = "output of an undecided epoch is visible"
ORDER = "epochs of a subtask are visible out of order"
TORN = "a torn transaction is visible"
DECIDED_TWICE = "an epoch is decided twice"
SKIPPED = "an epoch is decided before the one below it"
LOST = "the outbox of a decided epoch is gone before its output is visible"
UNFINISHED = "a running attempt has nothing left to do, and a decided epoch is not visible"
CONTRADICTION = "the ledger contradicts the manifests"


class Output(NamedTuple):
    """One subtask's output of one epoch, in one outbox."""

    subtask: int
    epoch: int
    file: str


class Manifest(NamedTuple):
    """A manifest: pending output, and the ids with the epochs known to be committed under them."""

    epoch: int
    attempt: int
    tries: int
    pending: tuple[Output, ...]
    sinks: tuple[tuple[int, int], ...]

    @property
    def own(self) -> tuple[Output, ...]:
        """Output of this very epoch."""
        return tuple(output for output in self.pending if output.epoch == self.epoch)


START = Manifest(0, 0, 1, (), ())


class Store(NamedTuple):
    """Objects: attempts (the process that took each number), manifests by epoch, and outboxes.

    `decided` is history that no process sees: every epoch's first manifest, whatever was deleted. `late` are creates
    whose senders gave up waiting; each may still be carried out at any time, or never.
    """

    attempts: tuple[int, ...] = ()
    manifests: tuple[Manifest, ...] = (START,)
    decided: tuple[Manifest, ...] = ()
    files: frozenset[str] = frozenset()
    late: frozenset[Manifest] = frozenset()
    broken: str = ""

    def held(self, epoch: int) -> Manifest | None:
        """Return the manifest under a name."""
        return next((m for m in self.manifests if m.epoch == epoch), None)

    def create(self, manifest: Manifest) -> Store:
        """Create a manifest whose name is free; a late copy of the one that was decided under it changes nothing."""
        manifests = tuple(sorted((*self.manifests, manifest)))
        if manifest.epoch <= len(self.decided):
            broken = "" if self.decided[manifest.epoch - 1] == manifest else DECIDED_TWICE
            return self._replace(manifests=manifests, broken=broken)
        broken = "" if manifest.epoch == len(self.decided) + 1 else SKIPPED
        return self._replace(manifests=manifests, decided=(*self.decided, manifest), broken=broken)

    def arrivals(self) -> list[tuple[str, Store]]:
        """Return what late creates can still do."""
        return [
            (
                f"the store carries out the create of manifest {manifest.epoch} that attempt {manifest.attempt} sent",
                self._replace(late=self.late - {manifest}).create(manifest),
            )
            for manifest in self.late
            if self.held(manifest.epoch) is None
        ]


class Part(NamedTuple):
    """What one commit wrote into a transaction; `whole` after its closing ledger record."""

    output: Output
    attempt: int
    whole: bool


class Transaction(NamedTuple):
    """A transaction; `ending` from the moment its commit is certain until its markers are written.

    `before` is the ledger as it was at its first record: all that a reader sees who stops there.
    """

    ending: bool
    parts: tuple[Part, ...]
    before: tuple[LedgerEntry | None, ...]


class Id(NamedTuple):
    """A transactional id: the process whose newest producer owns it, and whether a copy of its EndTxn is under way."""

    owner: int = NOBODY
    open: Transaction | None = None
    late: bool = False


class Broker(NamedTuple):
    """Transactional ids, the ledger's newest entry and the visible output by subtask."""

    ids: tuple[Id, ...]
    ledger: tuple[LedgerEntry | None, ...]
    visible: tuple[tuple[Output, ...], ...]
    broken: str = ""

    def with_id(self, index: int, **changes: object) -> Broker:
        """Return the broker after a change of one id."""
        changed = self.ids[index]._replace(**changes)  # type: ignore[arg-type]  # the fields of Id
        return self._replace(ids=(*self.ids[:index], changed, *self.ids[index + 1 :]))

    def init(self, index: int, owner: int) -> Broker | None:
        """Take over an id: older producers are fenced, what is open is aborted; None while a commit completes."""
        held = self.ids[index].open
        if held is not None and held.ending:
            return None
        return self.with_id(index, owner=owner, open=None, late=False)

    def write(self, index: int, part: Part) -> Broker:
        """Write records of a commit into the id's transaction, which the first of them opens."""
        held = self.ids[index].open or Transaction(False, (), self.ledger)
        return self.with_id(index, open=held._replace(parts=(*held.parts, part)))

    def close_part(self, index: int) -> Broker:
        """Write the closing ledger record."""
        held = self.ids[index].open
        assert held is not None
        return self.with_id(index, open=held._replace(parts=(*held.parts[:-1], held.parts[-1]._replace(whole=True))))

    def end(self, index: int) -> Broker:
        """Take in an EndTxn that commits: from here on the commit is certain."""
        held = self.ids[index].open
        assert held is not None
        return self.with_id(index, open=held._replace(ending=True))

    def abort(self, index: int) -> Broker:
        """Take in an EndTxn that aborts: too late for a commit that is certain, or for one that is complete."""
        held = self.ids[index].open
        return self if held is None or held.ending else self.with_id(index, open=None)

    def complete(self, index: int) -> Broker:
        """Write the markers: output and ledger entry become visible."""
        held = self.ids[index].open
        assert held is not None
        broker = self.with_id(index, open=None)
        for part in held.parts:
            broker = broker.show(part)
        return broker

    def show(self, part: Part) -> Broker:
        """Make one commit visible."""
        output, subtask = part.output, part.output.subtask
        if not part.whole:
            return self._replace(broken=TORN)
        if any(seen.epoch == output.epoch for seen in self.visible[subtask]):
            return self._replace(broken=TWICE)
        entry = LedgerEntry(part.attempt, output.epoch)
        ledger = (*self.ledger[:subtask], entry, *self.ledger[subtask + 1 :])
        shown = (*self.visible[subtask], output)
        return self._replace(ledger=ledger, visible=(*self.visible[:subtask], shown, *self.visible[subtask + 1 :]))

    @property
    def stable(self) -> bool:
        """Whether no transaction holds the last stable offset of the ledger back."""
        return all(entry.open is None for entry in self.ids)

    def up_to_stable(self, subtask: int) -> LedgerEntry | None:
        """Return the entry that a reader sees who stops at the last stable offset."""
        seen = [self.ledger[subtask], *(i.open.before[subtask] for i in self.ids if i.open is not None)]
        return min(seen, key=lambda entry: entry.epoch if entry else 0)


def broken_by(store: Store, broker: Broker, *, files: bool) -> str:
    """Return the invariant that is broken, also by what is visible and what was decided together; "" if none is."""
    decided = [output for manifest in store.decided for output in manifest.own]
    sure = {part.output for entry in broker.ids if entry.open and entry.open.ending for part in entry.open.parts}
    for subtask, shown in enumerate(broker.visible):
        if not set(shown) <= set(decided):
            return UNDECIDED
        if shown != tuple(output for output in decided if output.subtask == subtask)[: len(shown)]:
            return ORDER
        sure.update(shown)
    if files and any(output not in sure and output.file not in store.files for output in decided):
        return LOST
    return store.broken or broker.broken
