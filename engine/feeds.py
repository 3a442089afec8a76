"""Source feeds: one thread per source that reads and decodes ahead of the data thread, within a bound."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from .ports.source import SourceBatch, SourceReader, Split

BATCHES_AHEAD_MAX: Final = 3
"""Decoded batches that may wait for the data thread."""
READ_TIMEOUT_S: Final = 0.05
"""Longest wait for the first row of a batch; also how soon an assignment or the end is noticed."""
JOIN_TIMEOUT_S: Final = 5.0


class SourceFeed:
    """Reads one source in a thread of its own. `take` and `assign` belong to the data thread."""

    def __init__(self, uid: str, reader: SourceReader, batch_rows_max: int, wake: Callable[[], None]) -> None:
        self._uid = uid
        self._reader = reader
        self._rows_max = batch_rows_max
        self._wake = wake
        self._condition = threading.Condition()
        self._ready: deque[SourceBatch] = deque()
        self._assignments: deque[Sequence[Split]] = deque()
        self._error: Exception | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"source-{uid}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def assign(self, splits: Sequence[Split]) -> None:
        """Add splits; read from the next batch on."""
        with self._condition:
            self._assignments.append(splits)
            self._condition.notify_all()

    @property
    def ready(self) -> bool:
        """Whether `take` has something to give (or an error to raise)."""
        return bool(self._ready) or self._error is not None

    def take(self) -> SourceBatch | None:
        """Return the next batch, if there is one. Raises what the reader raised, after all earlier batches."""
        with self._condition:
            if self._ready:
                batch = self._ready.popleft()
                self._condition.notify_all()
                return batch
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """Stop reading and release the reader."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(JOIN_TIMEOUT_S)

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception as error:  # noqa: BLE001 (handed on, see below)
            # Whatever a reader raises has to reach the data thread; it decides what becomes of the job.
            with self._condition:
                self._error = error
        finally:
            self._reader.close()
            self._wake()

    def _turn(self) -> bool:
        with self._condition:
            while len(self._ready) >= BATCHES_AHEAD_MAX and not self._closing:
                self._condition.wait(1.0)
            if self._closing:
                return False
            assignments = list(self._assignments)
            self._assignments.clear()
        for splits in assignments:
            self._reader.assign(splits)
        batch = self._reader.read(self._rows_max, READ_TIMEOUT_S)
        if batch is not None:
            with self._condition:
                self._ready.append(batch)
            self._wake()
        return True
