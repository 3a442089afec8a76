"""The entries of a worker's dataflow: sources and exchange ports, from which elements are pushed into the steps."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from .elements import Barrier
from .exchange import Kind
from .failpoints import failpoint
from .feeds import SourceFeed
from .ports.source import SourceBatch, Split
from .protocol.alignment import Abandoned, Alignment, Arrived, Pass, Phase
from .protocol.manifest import SplitPosition
from .steps import BARRIER, WATERMARK, ExchangeStep, Step, UnionStep
from .watermarks import MergedWatermark, SplitWatermarks


@dataclass
class Reach:
    """The steps that an entry can reach inside its worker, for holding it and for credit."""

    unions: list[UnionStep] = field(default_factory=list)
    exchanges: list[ExchangeStep] = field(default_factory=list)

    def blocked(self, passed: Barrier | None) -> bool:
        """Whether a union still waits for the barrier that this entry already delivered."""
        return passed is not None and any(union.alignment.current == passed for union in self.unions)

    @property
    def has_credit(self) -> bool:
        """Whether every exchange in reach may take rows."""
        return all(exchange.has_credit for exchange in self.exchanges)


class SourceEntry:
    """One source subtask: takes batches from its feed, follows positions and watermark."""

    def __init__(self, uid: str, feed: SourceFeed, watermarks: SplitWatermarks, reach: Reach, then: Step) -> None:
        self.uid = uid
        self.rows_in = 0
        self.skipped = 0
        self._feed = feed
        self._watermarks = watermarks
        self._reach = reach
        self._then = then
        self._splits: dict[str, SplitPosition] = {}
        self._caught_up: set[str] = set()
        self._passed: Barrier | None = None
        self._looked = time.monotonic()
        self._announced: object = self

    def add(self, splits: Sequence[SplitPosition]) -> None:
        """Take over splits at their positions."""
        for split in splits:
            self._splits[split.split_id] = split
            self._watermarks.add(split.split_id, split.max_time)
            if split.finished:
                self._watermarks.finished([split.split_id])
        reading = [
            Split(s.split_id, s.index, start=s.position, first=s.position, end=s.end) for s in splits if not s.finished
        ]
        if reading:
            self._feed.assign(reading)

    def start(self) -> None:
        """Begin to read, and tell the steps where the watermark stands."""
        self._feed.start()
        self._announce()

    @property
    def ready(self) -> bool:
        """Whether `step` has a batch that may be processed now."""
        return self._feed.ready and not self._reach.blocked(self._passed) and self._reach.has_credit

    @property
    def held(self) -> bool:
        """Whether this entry waits for others although it has something to read."""
        return self._feed.ready and not self.ready

    @property
    def finished(self) -> bool:
        """Whether every split has reached its end."""
        return self._watermarks.all_finished

    @property
    def caught_up(self) -> bool:
        """Whether the last look found nothing more to read in any split."""
        return self._caught_up >= {uid for uid, split in self._splits.items() if not split.finished}

    def step(self) -> None:
        """Process one batch."""
        batch = self._feed.take()
        if batch is not None:
            self._absorb(batch)
        self.look()

    def look(self) -> None:
        """Let observed time pass; the watermark may become idle by it."""
        now = time.monotonic()
        self._watermarks.passed(int((now - self._looked) * 1000))
        self._looked = now
        self._announce()

    def _absorb(self, batch: SourceBatch) -> None:
        self.rows_in += batch.frame.height
        self.skipped += batch.skipped
        self._watermarks.saw(batch.max_time)
        self._watermarks.moved(batch.positions)
        self._watermarks.caught_up(batch.caught_up)
        self._watermarks.finished(batch.finished)
        self._caught_up -= set(batch.positions)
        self._caught_up |= batch.caught_up | batch.finished
        for split_id in {*batch.positions, *batch.finished}:
            old = self._splits[split_id]
            self._splits[split_id] = SplitPosition(
                source_uid=self.uid,
                split_id=split_id,
                index=old.index,
                position=batch.positions.get(split_id, old.position),
                end=old.end,
                max_time=self._watermarks.max_time(split_id),
                finished=old.finished or split_id in batch.finished,
            )
        if batch.frame.height:
            self._then.rows(batch.frame)

    def _announce(self) -> None:
        value = self._watermarks.value()
        if value != self._announced:
            self._announced = value
            self._then.watermark(value)

    def barrier(self, barrier: Barrier) -> list[SplitPosition]:
        """Send a barrier after the rows read so far and return the positions that belong to it."""
        self._passed = barrier
        positions = list(self._splits.values())
        self._then.barrier(barrier)
        return positions

    def close(self) -> None:
        """Stop reading."""
        self._feed.close()


class PortEntry:
    """The receiving side of an exchange for one keyed operator: one queue per sending worker, aligned by barriers."""

    def __init__(self, channels: int, own: int, window_bytes: int, floor: int, reach: Reach, then: Step) -> None:
        self._queues: list[deque[tuple[Kind, pl.DataFrame | bytes, Callable[[int], None] | None]]] = [
            deque() for _ in range(channels)
        ]
        self._alignment = Alignment(channels)
        self._watermark = MergedWatermark(channels, floor)
        self._reach = reach
        self._then = then
        self._passed: Barrier | None = None
        self._next = 0
        self.own = OwnChannel(self, own, window_bytes)

    @property
    def watermark(self) -> int:
        """The merged watermark (ms)."""
        return self._watermark.value

    def deliver(
        self, channel: int, kind: Kind, payload: pl.DataFrame | bytes, give: Callable[[int], None] | None
    ) -> None:
        """Append one element; any thread. The queue is bounded by the channel's credit."""
        self._queues[channel].append((kind, payload, give))

    def abandon(self, barrier: Barrier) -> None:
        """Release the channels held for this barrier."""
        self._alignment.on(Abandoned(barrier))

    def _choose(self) -> int | None:
        count = len(self._queues)
        for step in range(count):
            channel = (self._next + step) % count
            if self._queues[channel] and channel not in self._alignment.held:
                return channel
        return None

    @property
    def ready(self) -> bool:
        """Whether `step` has an element that may be processed now."""
        return self._choose() is not None and not self._reach.blocked(self._passed) and self._reach.has_credit

    def step(self) -> None:
        """Process one element of the next channel that is not held."""
        channel = self._choose()
        if channel is None:
            return
        self._next = channel + 1
        kind, payload, give = self._queues[channel].popleft()
        if kind is Kind.ROWS:
            frame = payload if isinstance(payload, pl.DataFrame) else pl.read_ipc_stream(payload)
            self._then.rows(frame)
            if give is not None:
                give(int(frame.estimated_size()) if isinstance(payload, pl.DataFrame) else len(payload))
        elif kind is Kind.WATERMARK and isinstance(payload, bytes):
            value, idle = WATERMARK.unpack(payload)
            if self._watermark.update(channel, None if idle else value):
                self._then.watermark(self._watermark.current)
        elif kind is Kind.BARRIER and isinstance(payload, bytes):
            self._arrived(channel, Barrier(*BARRIER.unpack(payload)))

    def _arrived(self, channel: int, barrier: Barrier) -> None:
        for instruction in self._alignment.on(Arrived(channel, barrier)):
            if isinstance(instruction, Pass):
                failpoint("worker.aligned")
                self._passed = instruction.barrier
                self._then.barrier(instruction.barrier)
        if self._alignment.phase is Phase.ALIGNING:
            failpoint("worker.mid-alignment")


class OwnChannel:
    """The channel from a worker to its own port; bounded by the same window as the others."""

    def __init__(self, port: PortEntry, index: int, window_bytes: int) -> None:
        self._port = port
        self._index = index
        self._credit = window_bytes

    def has_credit(self, port: int) -> bool:  # noqa: ARG002 (it has a port of its own)
        """Whether rows may be sent now."""
        return self._credit > 0

    def put(self, kind: Kind, item: pl.DataFrame | bytes) -> None:
        """Append one element."""
        if isinstance(item, pl.DataFrame):
            self._credit -= int(item.estimated_size())
            self._port.deliver(self._index, kind, item, self._give)
        else:
            self._port.deliver(self._index, kind, item, None)

    def _give(self, size: int) -> None:
        self._credit += size
