"""A heartbeat object: a random token and a counter that its holder raises, watched by others on a monotonic clock.

Neither clocks nor process ids of two machines are ever compared. A holder that shares the watcher's locked file (the
same file since the same boot) is known to be dead without watching, because the watcher could lock that file.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Final

from ..engine.errors import StoreMissingError, TidegateError
from ..engine.ports.store import CheckpointStore

NAME: Final = "alive/heartbeat.json"
WATCH_S: Final = 6.0
"""How long an unchanged heartbeat is watched before its holder counts as dead; several times the beat's interval."""
POLL_S: Final = 0.3
RELEASE_S_MAX: Final = 7.0
"""How long a release may wait for a beat that is under way."""

_log = logging.getLogger("tidegate.lock")


@dataclass(frozen=True)
class Beat:
    """The heartbeat's content. `machine` names the holder's locked file; a released beat has no holder."""

    token: str
    count: int
    machine: str
    released: bool = False


class Heartbeat:
    """One holder's or watcher's view of the heartbeat object. Beats are written by a thread of its own, newest only."""

    def __init__(
        self,
        store: CheckpointStore,
        *,
        watch_s: float = WATCH_S,
        poll_s: float = POLL_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._watch_s = watch_s
        self._poll_s = poll_s
        self._clock = clock
        self._sleep = sleep
        self._mine = Beat(secrets.token_hex(16), 0, "")
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self._writer: threading.Thread | None = None
        self._written = False

    def acquire(self, machine: str) -> bool:
        """Take the heartbeat; False if another token's counter moves while it is watched.

        Raises `StoreUnavailableError` when the store cannot be reached.
        """
        self._mine = replace(self._mine, machine=machine)
        first = self._read()
        if self._may_live(first):
            until = self._clock() + self._watch_s
            while self._clock() < until:
                self._sleep(self._poll_s)
                now = self._read()
                if not self._may_live(now):
                    break
                if now != first:
                    return False
        self._write()
        return True

    def beat(self, machine: str) -> None:
        """Have the counter raised soon; never waits. Failures are warnings, as the job's own calls will fail too."""
        self._mine = replace(self._mine, machine=machine)
        self._wanted.set()
        if self._writer is None:
            self._writer = threading.Thread(target=self._keep_writing, name="tidegate-heartbeat", daemon=True)
            self._writer.start()

    def release(self) -> None:
        """Mark the heartbeat as released, so that the next start need not watch it; may be called twice.

        Nothing is marked when the last sign of life could not be written: an end does not wait for a lost store.
        """
        if self._ended.is_set():
            return
        self._ended.set()
        self._wanted.set()
        if self._writer is not None:
            self._writer.join(RELEASE_S_MAX)
        if not self._written:
            return
        try:
            last = self._read()
            if last is not None and last.token == self._mine.token:
                self._mine = replace(self._mine, released=True)
                self._write()
        except TidegateError as error:
            _log.warning("the heartbeat was not released, so the next start elsewhere will watch it: %s", error.message)

    def _keep_writing(self) -> None:
        while self._wanted.wait() and not self._ended.is_set():
            self._wanted.clear()
            try:
                self._write()
            except TidegateError as error:
                _log.warning("no sign of life could be written: %s", error.message)

    def _write(self) -> None:
        self._mine = replace(self._mine, count=self._mine.count + 1)
        self._written = False
        self._store.replace(NAME, json.dumps(asdict(self._mine), sort_keys=True).encode())
        self._written = True

    def _may_live(self, beat: Beat | None) -> bool:
        if beat is None or beat.released or beat.token == self._mine.token:
            return False
        return not (beat.machine and beat.machine == self._mine.machine)

    def _read(self) -> Beat | None:
        """Read the object; one that is no heartbeat is watched like a holder's, as its bytes may change."""
        try:
            data = self._store.read(NAME)
        except StoreMissingError:
            return None
        try:
            plain = json.loads(data)
            return Beat(str(plain["token"]), int(plain["count"]), str(plain["machine"]), plain["released"] is True)
        except (ValueError, KeyError, TypeError):
            return Beat(data[:256].hex(), 0, "")
