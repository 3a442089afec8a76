"""A simulated worker: sources, exchange, one keyed operator and one sink, around the product's own pure machines."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from tidegate.engine.elements import Barrier
from tidegate.engine.messages import Ack
from tidegate.engine.protocol import alignment as al
from tidegate.engine.protocol.manifest import Committable, FileRef, Manifest, SplitPosition, StateFile

from .commits import Commits, Rows
from .outside import KEYS, key_of
from .rules import Rules
from .world import Process, World

READ_MAX: Final = 3
SINK: Final = "out"
STATE: Final = "counts"


def owner_of(key: int, parallelism: int) -> int:
    """Return the worker that owns a key; every key is a key group of its own."""
    return key * parallelism // KEYS


class Boss(Protocol):
    """What a worker needs of its coordinator."""

    attempt: int
    parallelism: int

    @property
    def process(self) -> Process:
        """The process that messages go to."""

    def hear(self, worker: int, message: object) -> None:
        """Take a message."""


@dataclass(frozen=True)
class Fenced:
    """All ids are fenced and read; `committed` by subtask."""

    committed: dict[int, int]


@dataclass(frozen=True)
class Committed:
    """Everything of this subtask up to the epoch is committed."""

    subtask: int
    epoch: int


@dataclass(frozen=True)
class Finished:
    """All splits of this worker are read to their ends."""


@dataclass(frozen=True)
class Failed:
    """The worker ends. `fenced` when the sink or the ledger said so, `newer` when they said by whom."""

    reason: str
    fenced: bool = False


@dataclass(frozen=True)
class TryFailed:
    """The worker's part of this try could not be made durable."""

    epoch: int
    tries: int


@dataclass
class Parts:
    """What is handed over for one barrier."""

    barrier: Barrier
    splits: list[SplitPosition] = field(default_factory=list)
    counts: dict[int, int] | None = None
    rows: Rows = field(default_factory=list)
    left: int = 0


class Worker(Process):
    """One worker of one attempt."""

    def __init__(
        self,
        world: World,
        store: Any,
        broker: Any,
        rules: Rules,
        boss: Boss,
        index: int,
        manifest: Manifest,
        known: dict[int, int],
    ) -> None:
        super().__init__(f"worker {boss.attempt}.{index}")
        self.world, self.store, self.rules, self.boss, self.index = world, store, rules, boss, index
        self.peers: list[Worker] = []
        self.splits = {s.split_id: s for s in manifest.splits if s.index % boss.parallelism == index}
        self.counts: dict[int, int] = {}
        self.alignment = al.Alignment(boss.parallelism - (0 if rules.align_all_inputs else 1) or 1)
        self.inputs: list[deque[object]] = [deque() for _ in range(boss.parallelism)]
        self.outbox: Rows = []
        self.mark = 0
        self.parts: Parts | None = None
        self.running = self.told_finished = False
        self.commits = Commits(self, world, store, broker, rules, boss.attempt, manifest.epoch, known)
        self._restore(manifest)

    # To the coordinator.

    def say(self, message: object) -> None:
        """Send a message to the coordinator."""
        self.world.send(self, self.boss.process, f"{self.name} says {message}", lambda: self._heard(message))

    def _heard(self, message: object) -> None:
        self.boss.hear(self.index, message)

    def commits_ready(self, committed: dict[int, int]) -> None:
        """Tell that every id is fenced and its ledger read."""
        self.say(Fenced(committed))

    def say_committed(self, subtask: int, epoch: int) -> None:
        """Tell that output is committed."""
        self.say(Committed(subtask, epoch))

    def fail(self, reason: str, *, fenced: bool = False) -> None:
        """End this worker with a last message."""
        self.say(Failed(reason, fenced))
        self.world.kill(self)

    def on_killed(self) -> None:
        """A dead worker's connection closes."""
        self.say(Failed("connection closed"))

    # Start.

    def _restore(self, manifest: Manifest) -> None:
        files = [state.file.name for state in manifest.states]
        self.world.call(self, "store", f"{self.name} restores", lambda: self._read_all(files), self._restored)

    def _read_all(self, files: list[str]) -> list[dict[int, int]] | None:
        if any(name not in self.store.objects for name in files):
            return None
        return [self.store.read(name) for name in files]

    def _restored(self, found: list[dict[int, int]] | None) -> None:
        if found is None:
            self.fail("a state file is missing", fenced=True)
            return
        for counts in found:
            self.counts |= {k: n for k, n in counts.items() if owner_of(k, self.boss.parallelism) == self.index}
        self.commits.start()

    # Messages of the coordinator.

    def commit_pending(self, committables: list[Committable]) -> None:
        """Commit what earlier attempts decided."""
        for committable in committables:
            self.commits.decided(committable.subtask, committable.epoch, [s.name for s in committable.segments])

    def run(self) -> None:
        """Begin to read."""
        self.running = True
        self._read_later()

    def barrier(self, epoch: int, tries: int) -> None:
        """Close the epoch at the sources."""
        barrier = Barrier(self.boss.attempt, epoch, tries)
        if not self.rules.keep_rows_of_failed_tries and tries > 1:
            del self.outbox[: self.mark]
        self.parts = Parts(barrier, list(self.splits.values()))
        self._forward(barrier)

    def abandon(self, epoch: int, tries: int) -> None:
        """Forget a try."""
        barrier = Barrier(self.boss.attempt, epoch, tries)
        if self.parts is not None and self.parts.barrier <= barrier:
            self.parts = None
        self.alignment.on(al.Abandoned(barrier))
        self._step_later()

    def decided(self, epoch: int) -> None:
        """Commit the epoch's own output."""
        rows, self.outbox, self.mark = self.outbox[: self.mark], self.outbox[self.mark :], 0
        if rows:
            self.commits.decided(self.index, epoch, rows)

    # Data.

    def _read_later(self) -> None:
        self.world.later((self, "read"), self, f"{self.name} reads", self._read)

    def _read(self) -> None:
        open_splits = [s for s in self.splits.values() if not s.finished]
        if not open_splits:
            if not self.told_finished:
                self.told_finished = True
                self.say(Finished())
            return
        split = self.world.random.choice(open_splits)
        start, end = int(str(split.position)), int(str(split.end))
        stop = min(end, start + self.world.random.randint(1, READ_MAX))
        number = int(split.split_id)
        keys = [key_of(number, offset) for offset in range(start, stop)]
        self.splits[split.split_id] = SplitPosition(
            split.source_uid, split.split_id, split.index, stop, end, finished=stop == end
        )
        for peer in self.peers:
            mine = [key for key in keys if owner_of(key, self.boss.parallelism) == peer.index]
            if mine:
                self._to(peer, mine)
        self._read_later()

    def _forward(self, barrier: Barrier) -> None:
        for peer in self.peers:
            self._to(peer, barrier)

    def _to(self, peer: Worker, element: object) -> None:
        self.world.later(
            (self, peer), peer, f"{self.name} -> {peer.name}: {element}", lambda: peer.received(self.index, element)
        )

    def received(self, sender: int, element: object) -> None:
        """Take an element of the exchange."""
        self.inputs[sender].append(element)
        self._step_later()

    def _step_later(self) -> None:
        self.world.later((self, "step"), self, f"{self.name} works", self._step)

    def _step(self) -> None:
        for sender, waiting in enumerate(self.inputs):
            while waiting and sender not in self.alignment.held:
                element = waiting.popleft()
                if isinstance(element, Barrier):
                    for passed in self.alignment.on(al.Arrived(sender, element)):
                        self._snapshot(passed.barrier)
                        self._step_later()
                else:
                    assert isinstance(element, list)
                    self._count(element)

    def _count(self, keys: list[int]) -> None:
        for key in keys:
            self.counts[key] = self.counts.get(key, 0) + 1
            self.outbox.append((key, self.counts[key]))

    # Checkpoints.

    def _snapshot(self, barrier: Barrier) -> None:
        self.mark = len(self.outbox)
        parts = self.parts
        if parts is None or parts.barrier != barrier:
            return
        self.parts = None
        parts.rows = self.outbox[: self.mark]
        parts.counts = dict(self.counts)
        self._upload(parts)

    def _upload(self, parts: Parts) -> None:
        barrier = parts.barrier
        place = f"{barrier.epoch}-{barrier.attempt}-{barrier.tries}-{self.index}-0"
        counts = parts.counts if self.rules.snapshot_at_barrier else self.counts
        files: list[tuple[str, object]] = []
        if counts:
            files.append((f"state/{STATE}/{place}.parquet", counts))
        if parts.rows:
            files.append((f"outbox/{SINK}/{place}.arrow", parts.rows))
        parts.left = len(files)
        if not files:
            self.say(self._ack(parts, []))
        for name, value in files:
            self.world.call(
                self, "store", f"create {name}", self._create(name, value),
                lambda _: self._uploaded(parts, files), lambda: self._not_uploaded(parts),
            )  # fmt: skip

    def _create(self, name: str, value: object) -> Callable[[], None]:
        def create() -> None:
            self.store.create(name, dict(value) if isinstance(value, dict) else value)

        return create

    def _uploaded(self, parts: Parts, files: list[tuple[str, object]]) -> None:
        parts.left -= 1
        if not parts.left:
            self.say(self._ack(parts, [name for name, _ in files]))

    def _not_uploaded(self, parts: Parts) -> None:
        parts.left = -1
        self.say(TryFailed(parts.barrier.epoch, parts.barrier.tries))

    def _ack(self, parts: Parts, names: list[str]) -> Ack:
        refs = [FileRef(name, 0, "", len(parts.rows)) for name in names]
        states = [StateFile(STATE, ref, 0, KEYS) for ref in refs if ref.name.startswith("state/")]
        outboxes = tuple(ref for ref in refs if ref.name.startswith("outbox/"))
        output = [Committable(SINK, self.index, parts.barrier.epoch, outboxes)] if outboxes else []
        return Ack(parts.barrier.epoch, parts.barrier.tries, parts.splits, states, output, {}, {}, {})
