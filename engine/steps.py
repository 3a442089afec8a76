"""The steps of a dataflow inside one worker: rows, watermarks and barriers are pushed from step to step."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import polars as pl

from .elements import Barrier
from .exchange import Kind, Outgoing
from .failpoints import failpoint
from .operators.window import WindowState
from .protocol.alignment import Abandoned, Alignment, Arrived, Pass
from .watermarks import MergedWatermark

WATERMARK: Final = struct.Struct("<q?")
BARRIER: Final = struct.Struct("<qqq")


class Step(Protocol):
    """What a step takes in. All calls come from the data thread, in stream order."""

    def rows(self, frame: pl.DataFrame) -> None:
        """Take in rows; never called with an empty frame."""

    def watermark(self, value: int | None) -> None:
        """Take in a watermark (ms); None = idle."""

    def barrier(self, barrier: Barrier) -> None:
        """Take in a barrier."""


class Tee:
    """Sends everything to several steps."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps

    def rows(self, frame: pl.DataFrame) -> None:
        """Pass the same immutable rows to each."""
        for step in self._steps:
            step.rows(frame)

    def watermark(self, value: int | None) -> None:
        """Pass on."""
        for step in self._steps:
            step.watermark(value)

    def barrier(self, barrier: Barrier) -> None:
        """Pass on."""
        for step in self._steps:
            step.barrier(barrier)


class MapStep:
    """Runs a fused chain of stateless operators."""

    def __init__(self, function: Callable[[pl.DataFrame], pl.DataFrame], then: Step) -> None:
        self._function = function
        self._then = then

    def rows(self, frame: pl.DataFrame) -> None:
        """Transform, and pass on what is left."""
        result = self._function(frame)
        if result.height:
            self._then.rows(result)

    def watermark(self, value: int | None) -> None:
        """Pass on."""
        self._then.watermark(value)

    def barrier(self, barrier: Barrier) -> None:
        """Pass on."""
        self._then.barrier(barrier)


class UnionStep:
    """Joins several inputs of one worker; aligns their barriers and takes the smallest watermark."""

    def __init__(self, inputs: int, then: Step) -> None:
        self.alignment = Alignment(inputs)
        self._watermark = MergedWatermark(inputs)
        self._then = then

    def input(self, index: int) -> UnionInput:
        """Return the step that feeds input `index`."""
        return UnionInput(self, index)

    def rows(self, frame: pl.DataFrame) -> None:
        """Pass on."""
        self._then.rows(frame)

    def watermark_from(self, index: int, value: int | None) -> None:
        """Pass the merged watermark on when it changed."""
        if self._watermark.update(index, value):
            self._then.watermark(self._watermark.current)

    def barrier_from(self, index: int, barrier: Barrier) -> None:
        """Pass the barrier on when every input has delivered it."""
        for instruction in self.alignment.on(Arrived(index, barrier)):
            if isinstance(instruction, Pass):
                self._then.barrier(instruction.barrier)

    def abandon(self, barrier: Barrier) -> None:
        """Release what waits for this barrier."""
        self.alignment.on(Abandoned(barrier))


class UnionInput:
    """One input of a union."""

    def __init__(self, union: UnionStep, index: int) -> None:
        self._union = union
        self._index = index

    def rows(self, frame: pl.DataFrame) -> None:
        """Pass on."""
        self._union.rows(frame)

    def watermark(self, value: int | None) -> None:
        """Merge."""
        self._union.watermark_from(self._index, value)

    def barrier(self, barrier: Barrier) -> None:
        """Align."""
        self._union.barrier_from(self._index, barrier)


class LocalChannel(Protocol):
    """The channel from a worker to its own port, without serialisation."""

    def has_credit(self, port: int) -> bool:
        """Whether rows may be sent to a port now."""

    def put(self, kind: Kind, item: pl.DataFrame | bytes) -> None:
        """Append one element."""


class ExchangeStep:
    """Pre-aggregates rows for a keyed operator and sends each key group to the worker that owns it."""

    def __init__(
        self,
        port: int,
        partial: Callable[[pl.DataFrame], pl.DataFrame],
        split: Callable[[pl.DataFrame], Sequence[pl.DataFrame | None]],
        channels: Sequence[Outgoing | LocalChannel],
    ) -> None:
        self._port = port
        self._partial = partial
        self._split = split
        self._channels = channels
        self._last_watermark: bytes = b""

    @property
    def has_credit(self) -> bool:
        """Whether every channel may take rows."""
        return all(channel.has_credit(self._port) for channel in self._channels)

    def rows(self, frame: pl.DataFrame) -> None:
        """Send partial rows to their owners."""
        partials = self._partial(frame)
        if not partials.height:
            return
        for channel, part in zip(self._channels, self._split(partials), strict=True):
            if part is None or not part.height:
                continue
            if isinstance(channel, Outgoing):
                channel.send(Kind.ROWS, self._port, to_ipc(part))
            else:
                channel.put(Kind.ROWS, part)

    def watermark(self, value: int | None) -> None:
        """Tell every owner, when it changed."""
        payload = WATERMARK.pack(value or 0, value is None)
        if payload != self._last_watermark:
            self._last_watermark = payload
            self._broadcast(Kind.WATERMARK, payload)

    def barrier(self, barrier: Barrier) -> None:
        """Tell every owner."""
        self._broadcast(Kind.BARRIER, BARRIER.pack(*barrier))

    def _broadcast(self, kind: Kind, payload: bytes) -> None:
        for channel in self._channels:
            if isinstance(channel, Outgoing):
                channel.send(kind, self._port, payload)
            else:
                channel.put(kind, payload)


class WindowStep:
    """Keeps the windows of this worker's key groups and passes on what the watermark closes."""

    def __init__(
        self,
        uid: str,
        state: WindowState,
        floor: int,
        handed: Callable[[str, Sequence[pl.DataFrame]], None],
        then: Step,
    ) -> None:
        self.uid = uid
        self.state = state
        self.floor = floor
        self.late = 0
        self._handed = handed
        self._then = then

    def rows(self, frame: pl.DataFrame) -> None:
        """Merge partial rows; those of closed windows are dropped and counted."""
        self.late += self.state.absorb(frame, self.floor)

    def watermark(self, value: int | None) -> None:
        """Close windows."""
        if value is not None:
            self.floor = max(self.floor, value)
            closed = self.state.advance(self.floor)
            if closed is not None and closed.height:
                self._then.rows(closed)
        self._then.watermark(value)

    def barrier(self, barrier: Barrier) -> None:
        """Hand the state over and pass on."""
        self._handed(self.uid, self.state.snapshot())
        failpoint("worker.snapshot-taken")
        self._then.barrier(barrier)


def to_ipc(frame: pl.DataFrame) -> memoryview:
    """Return the frame as an uncompressed Arrow IPC stream."""
    buffer = frame.write_ipc_stream(None)
    return buffer.getbuffer()
