"""Watermarks: per split from event times, per operator as the minimum of its inputs; pure.

A watermark of None says "idle": this input holds nobody back. A watermark never goes down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from .ids import WATERMARK_MAX, WATERMARK_MIN

IDLE_STEP_MAX_MS: Final = 500
"""Most idle time that one look at the clock may add: a process that was stopped must not find its splits idle."""


class SplitWatermarks:
    """Watermark of one source subtask: the smallest over its splits that are neither idle nor finished.

    A split without any record yet holds everything back. It is idle after it was caught up, without a new record, for
    `idle_after_ms` of observed time.
    """

    def __init__(self, out_of_orderness_ms: int, idle_after_ms: int | None) -> None:
        self._lag = out_of_orderness_ms
        self._idle_after = idle_after_ms
        self._max_time: dict[str, int | None] = {}
        self._quiet_ms: dict[str, int] = {}
        self._finished: set[str] = set()

    def add(self, split: str, max_time: int | None) -> None:
        """Begin to follow a split; `max_time` is the largest event time seen before a restart."""
        self._max_time[split] = max_time

    def saw(self, max_time: Mapping[str, int]) -> None:
        """Take in the largest event times of a batch."""
        for split, time in max_time.items():
            known = self._max_time.get(split)
            self._max_time[split] = time if known is None else max(known, time)

    def moved(self, splits: Iterable[str]) -> None:
        """These splits delivered records, so they are not quiet."""
        for split in splits:
            self._quiet_ms.pop(split, None)

    def caught_up(self, splits: Iterable[str]) -> None:
        """These splits have nothing more to read at the moment."""
        for split in splits:
            self._quiet_ms.setdefault(split, 0)

    def finished(self, splits: Iterable[str]) -> None:
        """These splits reached their end and hold nobody back any more."""
        self._finished.update(splits)

    def passed(self, elapsed_ms: int) -> None:
        """Let observed time pass for the quiet splits."""
        step = min(elapsed_ms, IDLE_STEP_MAX_MS)
        for split in self._quiet_ms:
            self._quiet_ms[split] += step

    def max_time(self, split: str) -> int | None:
        """Largest event time seen in a split."""
        return self._max_time.get(split)

    @property
    def all_finished(self) -> bool:
        """Whether every split has reached its end (true without any split)."""
        return len(self._finished) == len(self._max_time)

    def _idle(self, split: str) -> bool:
        return self._idle_after is not None and self._quiet_ms.get(split, -1) >= self._idle_after

    def value(self) -> int | None:
        """The watermark now; None when every unfinished split is idle or there is no split."""
        active = [s for s in self._max_time if s not in self._finished and not self._idle(s)]
        times = [self._max_time[s] for s in active]
        if active:
            known = [t for t in times if t is not None]
            return min(known) - self._lag if len(known) == len(times) else WATERMARK_MIN
        return WATERMARK_MAX if self._max_time and self.all_finished else None


class MergedWatermark:
    """Watermark of an operator with several inputs."""

    def __init__(self, inputs: int, floor: int = WATERMARK_MIN) -> None:
        self._inputs: list[int | None] = [WATERMARK_MIN] * inputs
        self.value = floor
        self.idle = False

    def update(self, index: int, watermark: int | None) -> bool:
        """Take in the watermark of one input; True if the merged one changed (or became, or stopped being, idle)."""
        self._inputs[index] = watermark
        active = [w for w in self._inputs if w is not None]
        before = (self.value, self.idle)
        self.idle = not active
        if active:
            self.value = max(self.value, min(active))
        return (self.value, self.idle) != before

    @property
    def current(self) -> int | None:
        """What to tell the next operator."""
        return None if self.idle else self.value
