"""Background lanes of the coordinator: one thread per kind of slow work, results come back to the main loop."""

from __future__ import annotations

import functools
import logging
import queue
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
log = logging.getLogger(__name__)

LANES: Final = ("decide", "sources", "catalog", "liveness", "retire")
QUEUED_MAX: Final = 64
"""Jobs that may wait in a lane that is allowed to drop work."""


class Background:
    """Runs slow calls in named lanes; jobs of one lane run one after the other."""

    def __init__(self) -> None:
        self._lanes = {lane: ThreadPoolExecutor(1, thread_name_prefix=lane) for lane in LANES}
        self._waiting = dict.fromkeys(LANES, 0)
        self._results: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)

    def fileno(self) -> int:
        """Readable when `drain` has something to do."""
        return self._ours.fileno()

    def run(
        self, lane: str, work: Callable[[], T], then: Callable[[T], None], failed: Callable[[Exception], None]
    ) -> None:
        """Run `work` in its lane; `then` or `failed` is called from `drain`, in the main loop."""

        def job() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 (handed over to the main loop, which decides)
                self._results.put(functools.partial(failed, error))
            else:
                self._results.put(functools.partial(then, result))
            self.wake()

        self._lanes[lane].submit(job)

    def try_run(self, lane: str, work: Callable[[], object]) -> None:
        """Run work whose failure is only worth a warning; left out when the lane is too far behind."""
        if self._waiting[lane] >= QUEUED_MAX:
            log.warning("%s lane is %d jobs behind, leaving one out", lane, QUEUED_MAX)
            return
        self._waiting[lane] += 1

        def job() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 (never worth a job's failure)
                log.warning("%s: %s", lane, error)
            finally:
                self._waiting[lane] -= 1

        self._lanes[lane].submit(job)

    def wake(self) -> None:
        """Wake the main loop; from any thread or a signal handler."""
        try:
            self._theirs.send(b"x")
        except OSError:
            return  # full: it is awake already; closed: nobody listens any more

    def drain(self) -> None:
        """Run the callbacks that have become due."""
        try:
            while self._ours.recv(4096):
                pass
        except BlockingIOError:
            pass
        while not self._results.empty():
            self._results.get()()

    def close(self, wait: bool = True) -> None:
        """Finish what was begun and stop."""
        for lane in self._lanes.values():
            lane.shutdown(wait=wait, cancel_futures=not wait)
        self._ours.close()
        self._theirs.close()
