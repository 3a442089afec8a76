"""Commit threads: drive the commit cycles of the sink subtasks that a worker owns, one thread per sink.

The cycle decides (engine/protocol/commit.py); this shell only calls the sink, keeps the payloads and waits.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import pyarrow as pa

from .errors import FencedError, LedgerAheadError, LedgerMismatchError, SinkUnavailableError, TidegateError
from .failpoints import failpoint
from .outbox import unseal
from .ports.sink import CommitOutcome, Fence, Permit, SinkCommitter
from .protocol import commit as cycle
from .protocol.manifest import Committable, FileRef

log = logging.getLogger(__name__)

RETRY_FIRST_S: Final = 0.2
RETRY_MAX_S: Final = 5.0
JOIN_TIMEOUT_S: Final = 5.0
Payload = Sequence[pa.RecordBatch] | Sequence[FileRef]


class SinkCommits:
    """All commits of one sink in one worker. Events come from any thread; the sink is called from its own one."""

    def __init__(
        self,
        sink_uid: str,
        job_uid: str,
        attempt: int,
        open_committer: Callable[[], SinkCommitter],
        read_file: Callable[[FileRef], bytes],
        done: Callable[[str, int, int], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._uid = sink_uid
        self._job_uid = job_uid
        self._attempt = attempt
        self._open = open_committer
        self._read_file = read_file
        self._done = done
        self._failed = failed
        self._cycles: dict[int, cycle.CommitCycle] = {}
        self._fences: dict[int, Fence] = {}
        self._payloads: dict[tuple[int, int], Payload] = {}
        self._sizes: dict[tuple[int, int], int] = {}
        self._retry_at: dict[int, float] = {}
        self._pauses: dict[int, float] = {}
        self._events: queue.SimpleQueue[tuple[int, object] | None] = queue.SimpleQueue()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"commit-{sink_uid}", daemon=True)
        self._sink: SinkCommitter | None = None

    def start(self, known: dict[int, int], decided: int) -> None:
        """Fence the ids of these subtasks (with the last epochs known to be committed) and read the ledger for them."""
        self._cycles = {i: cycle.CommitCycle(self._attempt, epoch, decided, ()) for i, epoch in known.items()}
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether every subtask has been fenced and its ledger read once."""
        return self._ready.is_set()

    @property
    def committed(self) -> dict[int, int]:
        """Last epoch known to be committed by subtask."""
        return {subtask: state.known for subtask, state in self._cycles.items()}

    @property
    def backlog_bytes(self) -> int:
        """Size of decided output that is not known to be committed."""
        return sum(list(self._sizes.values()))

    def decided(self, subtask: int, epoch: int, payload: Payload, size: int) -> None:
        """Hand over output of a decided epoch, as batches in memory or as outbox files."""
        self._payloads[subtask, epoch] = payload
        self._sizes[subtask, epoch] = size
        self._events.put((subtask, cycle.DecidedEpoch(epoch)))

    def pending(self, committable: Committable) -> None:
        """Hand over output that an earlier attempt decided."""
        size = sum(segment.size for segment in committable.segments)
        self.decided(committable.subtask, committable.epoch, committable.segments, size)

    def close(self) -> None:
        """Stop; what is not committed stays in its outboxes."""
        self._events.put(None)
        if self._thread.is_alive():
            self._thread.join(JOIN_TIMEOUT_S)

    def _run(self) -> None:
        try:
            self._sink = self._open()
            self._fence_all()
            while self._turn():
                pass
        except Exception as error:  # noqa: BLE001 (handed on, see below)
            # Every failure of a sink has to reach the coordinator, also one that the sink's author did not foresee.
            self._failed(error)
        finally:
            if self._sink is not None:
                self._sink.close()

    def _turn(self) -> bool:
        now = time.monotonic()
        for subtask, due in list(self._retry_at.items()):
            if due <= now:
                del self._retry_at[subtask]
                self._feed(subtask, cycle.RetryDue())
        timeout = min((due - now for due in self._retry_at.values()), default=1.0)
        try:
            event = self._events.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            return True
        if event is None:
            return False
        self._feed(*event)
        return True

    def _fence_all(self) -> None:
        """Fence and read for all subtasks at once, which costs one round instead of one per subtask."""
        for state in self._cycles.values():
            state.on(cycle.Open())
        events = self._try_fences(list(self._cycles))
        for subtask, event in events.items():
            self._feed(subtask, event)
        while not all(s.phase in {cycle.Phase.READY, cycle.Phase.STOPPED} for s in self._cycles.values()):
            if not self._turn():
                return
        self._ready.set()
        failpoint("worker.ledger-read")
        self._done("", 0, 0)

    def _try_fences(self, subtasks: Sequence[int]) -> dict[int, object]:
        """Fence several subtasks and read the ledger once for all; return the event that each cycle gets next."""
        assert self._sink is not None
        try:
            fences = self._sink.fence(subtasks)
            failpoint("worker.fenced")
            self._fences.update({fence.subtask: fence for fence in fences})
            for subtask in subtasks:
                self._cycles[subtask].on(cycle.FenceMade())
            entries = self._sink.last_committed(fences)
        except SinkUnavailableError as error:
            return dict.fromkeys(subtasks, cycle.Unavailable(str(error)))
        return {subtask: cycle.LedgerRead(entries.get(subtask)) for subtask in subtasks}

    def _feed(self, subtask: int, event: object) -> None:
        events = [event]
        while events:
            for instruction in self._cycles[subtask].on(events.pop(0)):
                answer = self._obey(subtask, instruction)
                if answer is not None:
                    events.append(answer)

    def _obey(self, subtask: int, instruction: cycle.Instruction) -> object | None:
        match instruction:
            case cycle.MakeFence():
                return self._try_fences([subtask])[subtask]
            case cycle.Commit(epoch):
                return self._commit(subtask, epoch)
            case cycle.Done(epoch):
                self._report(subtask, epoch)
            case cycle.RetryLater(reason):
                pause = self._pauses.get(subtask, RETRY_FIRST_S)
                self._pauses[subtask] = min(pause * 2, RETRY_MAX_S)
                self._retry_at[subtask] = time.monotonic() + pause
                log.warning(
                    "sink '%s' subtask %d cannot commit now, next try in %.1f s: %s", self._uid, subtask, pause, reason
                )
            case cycle.Stop():
                raise self._stopped(subtask, instruction)
            case cycle.ReadLedger():
                pass  # read together with the fence, in `_try_fences`
        return None

    def _commit(self, subtask: int, epoch: int) -> object:
        assert self._sink is not None
        permit = Permit(self._job_uid, self._uid, subtask, epoch, self._attempt)
        failpoint("worker.before-commit")
        try:
            batches = self._load(self._payloads[subtask, epoch])
            outcome = self._sink.commit(self._fences[subtask], permit, batches)
        except FencedError:
            return cycle.FencedOff()
        except SinkUnavailableError as error:
            return cycle.Unavailable(str(error))
        failpoint("worker.after-commit")
        if outcome is CommitOutcome.UNKNOWN:
            log.warning(
                "sink '%s' subtask %d: outcome of epoch %d unknown, reading the ledger", self._uid, subtask, epoch
            )
        return cycle.CommitTried(outcome)

    def _load(self, payload: Payload) -> list[pa.RecordBatch]:
        batches: list[pa.RecordBatch] = []
        for part in payload:
            batches += unseal(part.name, self._read_file(part)) if isinstance(part, FileRef) else [part]
        return batches

    def _report(self, subtask: int, epoch: int) -> None:
        self._pauses.pop(subtask, None)
        for key in [key for key in self._payloads if key[0] == subtask and key[1] <= epoch]:
            del self._payloads[key]
            del self._sizes[key]
        self._done(self._uid, subtask, epoch)
        failpoint("worker.commit-reported")

    def _stopped(self, subtask: int, stop: cycle.Stop) -> TidegateError:
        where = f"sink '{self._uid}' subtask {subtask}"
        if stop.newer is not None:
            return FencedError(
                f"attempt {self._attempt} found attempt {stop.newer} in the ledger of {where} and stopped"
            )
        if stop.ahead is not None:
            return LedgerAheadError(
                f"the ledger of {where} knows epoch {stop.ahead}, which this attempt never saw decided",
                hint="manifests are missing: the storage was wiped or restored from an older copy; bring the newer "
                "manifests back, or start under a new job name",
            )
        if stop.behind:
            return LedgerMismatchError(
                f"{where}: {stop.behind}",
                hint="the ledger topic was deleted, emptied or replaced; restore it, or start under a new job name",
            )
        return FencedError(f"{where} was fenced by somebody else, or its transaction was timed out by the broker")
