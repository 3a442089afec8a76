"""The simulated checkpoint store and broker: atomic steps with the properties that the protocol relies on."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidegate.engine.ports.sink import LedgerEntry
from tidegate.engine.protocol.manifest import Manifest

from .world import ViolationError

KEYS = 5
SPLITS = 4


def key_of(split: int, offset: int) -> int:
    """Return the key of a record: partitions share keys."""
    return (split * 3 + offset * 2 + offset // 3) % KEYS


class Gone(LookupError):  # noqa: N818 (a plain answer of the store)
    """An object is not there."""


@dataclass
class Store:
    """Objects under names; a name is created at most once for as long as it exists."""

    objects: dict[str, object] = field(default_factory=dict)
    manifests: dict[int, Manifest] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    ever: dict[int, str] = field(default_factory=dict)

    def claim(self, attempt: int, writer: int) -> bool:
        """Take an attempt number."""
        return self.attempts.setdefault(attempt, writer) == writer

    def highest(self) -> int:
        """Return the highest attempt number."""
        return max(self.attempts, default=0)

    def decide(self, manifest: Manifest) -> bool:
        """Create a manifest if its name is free; true if it is this very one."""
        held = self.manifests.setdefault(manifest.epoch, manifest)
        before = self.ever.setdefault(manifest.epoch, held.writer)
        if before != held.writer:
            raise ViolationError(f"epoch {manifest.epoch} was decided twice: its name was free again")
        if held is manifest and any(e not in self.ever for e in range(manifest.epoch)):
            raise ViolationError(f"epoch {manifest.epoch} was decided before the one below it")
        return held.writer == manifest.writer

    def newest(self) -> Manifest | None:
        """Read the newest manifest."""
        return self.manifests[max(self.manifests)] if self.manifests else None

    def create(self, name: str, value: object) -> None:
        """Write an object; the same caller may repeat it."""
        self.objects.setdefault(name, value)

    def read(self, name: str) -> object:
        """Read an object. Raises `Gone`."""
        if name not in self.objects:
            raise Gone(name)
        return self.objects[name]

    def delete(self, names: list[str]) -> None:
        """Delete objects and manifests."""
        for name in names:
            self.objects.pop(name, None)
            if name.startswith("manifest/"):
                self.manifests.pop(int(name.removeprefix("manifest/")), None)


@dataclass
class Transaction:
    """An open transaction: what was written into it, and whether its ledger entry was begun and ended."""

    owner: int
    rows: list[tuple[int, int]] = field(default_factory=list)
    begun: LedgerEntry | None = None
    ended: LedgerEntry | None = None


@dataclass
class Broker:
    """Transactional ids, one output topic and the ledger. The topic is checked row by row as it becomes visible.

    `visible[key]` is the number of results that a read_committed reader sees for a key. The n-th record of a key makes
    result n, so results have to appear as 1, 2, 3 ...: anything else is lost, doubled or out of order.
    """

    fencing: bool = True
    owners: dict[int, int] = field(default_factory=dict)
    open: dict[int, Transaction] = field(default_factory=dict)
    ledger: dict[int, LedgerEntry] = field(default_factory=dict)
    visible: dict[int, int] = field(default_factory=dict)
    decided: int = 0

    def init(self, subtask: int, owner: int) -> None:
        """Take over a transactional id: its open transaction is aborted, older owners are fenced."""
        if self.fencing:
            self.owners[subtask] = owner
            self.open.pop(subtask, None)

    def owns(self, subtask: int, owner: int) -> bool:
        """Whether this producer may still write."""
        return not self.fencing or self.owners.get(subtask) == owner

    def begin(self, subtask: int, owner: int, entry: LedgerEntry, rows: list[tuple[int, int]]) -> bool:
        """Write the first half of a transaction; False for a fenced producer."""
        if not self.owns(subtask, owner):
            return False
        self.open[subtask] = Transaction(owner, list(rows), entry)
        return True

    def complete(self, subtask: int, owner: int, entry: LedgerEntry, rows: list[tuple[int, int]]) -> bool:
        """Write the second half; False for a fenced producer, or if the transaction was ended by somebody."""
        if not self.owns(subtask, owner) or subtask not in self.open:
            return False
        transaction = self.open[subtask]
        transaction.rows += rows
        transaction.ended = entry
        return True

    def commit(self, subtask: int, owner: int) -> bool:
        """End the open transaction of this producer; False if it is fenced or there is none."""
        if not self.owns(subtask, owner) or subtask not in self.open:
            return False
        transaction = self.open.pop(subtask)
        if transaction.ended is None or transaction.begun != transaction.ended:
            raise ViolationError(f"a torn transaction of subtask {subtask} became visible")
        entry = transaction.ended
        if entry.epoch > self.decided:
            raise ViolationError(f"output of epoch {entry.epoch} became visible before it was decided")
        for key, number in transaction.rows:
            seen = self.visible.get(key, 0)
            if number != seen + 1:
                how = "doubled" if number <= seen else "lost or out of order"
                raise ViolationError(f"result {number} of key {key} became visible after result {seen}: {how}")
            self.visible[key] = number
        self.ledger[subtask] = entry
        return True

    def time_out(self, subtask: int) -> None:
        """The broker gives up a transaction: it is aborted and its owner fenced."""
        if subtask in self.open and self.fencing:
            del self.open[subtask]
            self.owners.pop(subtask, None)
