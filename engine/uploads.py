"""A worker's part of a checkpoint: collected at the barrier, uploaded in the background, acknowledged as a whole."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import polars as pl
import pyarrow as pa

from .elements import Barrier
from .errors import StoreDeniedError, StoreUnavailableError
from .failpoints import failpoint
from .messages import Ack, TryFailed
from .outbox import seal
from .ports.keyed import KEY_GROUP
from .ports.store import CheckpointStore
from .protocol.manifest import Committable, FileRef, SplitPosition, StateFile

UPLOAD_THREADS: Final = 2


@dataclass
class Parts:
    """What a worker's sources, keyed operators and sinks handed over for one barrier."""

    barrier: Barrier
    expected: int
    started: float = field(default_factory=time.monotonic)
    splits: list[SplitPosition] = field(default_factory=list)
    states: dict[str, Sequence[pl.DataFrame]] = field(default_factory=dict)
    outputs: dict[str, Sequence[pa.RecordBatch]] = field(default_factory=dict)
    watermarks: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    handed: int = 0

    @property
    def complete(self) -> bool:
        """Whether every part has been handed over."""
        return self.handed == self.expected

    def count(self, name: str, value: int) -> None:
        """Add an operator's count as of its barrier; operators reach the barrier one after the other."""
        self.counters[name] = self.counters.get(name, 0) + value


class Uploader:
    """Writes parts to the checkpoint store in background threads."""

    def __init__(
        self,
        store: CheckpointStore,
        subtask: int,
        targets: dict[str, dict[str, object]],
        write_run: Callable[[str, pl.DataFrame], bytes],
        report: Callable[[Ack | TryFailed], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._store = store
        self._subtask = subtask
        self._targets = targets
        self._write_run = write_run
        self._report = report
        self._failed = failed
        self._files = ThreadPoolExecutor(UPLOAD_THREADS, thread_name_prefix="upload")
        self._whole = ThreadPoolExecutor(1, thread_name_prefix="acknowledge")

    def submit(self, parts: Parts) -> None:
        """Make the parts durable and acknowledge them; returns at once."""
        self._whole.submit(self._acknowledge, parts)

    def close(self) -> None:
        """Stop; what is not acknowledged is void."""
        self._whole.shutdown(wait=False, cancel_futures=True)
        self._files.shutdown(wait=False, cancel_futures=True)

    def _acknowledge(self, parts: Parts) -> None:
        barrier = parts.barrier
        try:
            self._report(self._upload(parts))
            failpoint("worker.acknowledged")
        except (StoreUnavailableError, StoreDeniedError) as error:
            # Credentials expire and are renewed: a denial in mid-run fails the try, not the job.
            self._report(TryFailed(barrier.epoch, barrier.tries, str(error)))
        except Exception as error:  # noqa: BLE001 (handed on, see below)
            # Anything else is a defect or a broken store: the worker's main thread ends the attempt with it.
            self._failed(error)

    def _upload(self, parts: Parts) -> Ack:
        uploading = time.monotonic()
        states = [
            (uid, run, self._files.submit(self._state, parts.barrier, uid, number, run))
            for uid, runs in parts.states.items()
            for number, run in enumerate(runs)
            if run.height
        ]
        outputs = [
            (uid, self._files.submit(self._outbox, parts.barrier, uid, batches))
            for uid, batches in parts.outputs.items()
            if batches
        ]
        _settle([*(future for _, _, future in states), *(future for _, future in outputs)])
        failpoint("worker.uploaded")
        now = time.monotonic()
        return Ack(
            epoch=parts.barrier.epoch,
            tries=parts.barrier.tries,
            splits=parts.splits,
            states=[_state_file(uid, run, future.result()) for uid, run, future in states],
            committables=[
                Committable(uid, self._subtask, parts.barrier.epoch, (future.result(),), self._targets.get(uid, {}))
                for uid, future in outputs
            ],
            watermarks=parts.watermarks,
            counters=parts.counters,
            durations_ms={
                "align": (uploading - parts.started) * 1000,
                "upload": (now - uploading) * 1000,
            },
        )

    def _name(self, folder: str, uid: str, barrier: Barrier, number: int, ending: str) -> str:
        place = f"{barrier.epoch:012d}-{barrier.attempt:06d}-{barrier.tries}-{self._subtask}-{number}"
        return f"{folder}/{uid}/{place}.{ending}"

    def _state(self, barrier: Barrier, uid: str, number: int, run: pl.DataFrame) -> FileRef:
        return self._put(self._name("state", uid, barrier, number, "parquet"), self._write_run(uid, run), run.height)

    def _outbox(self, barrier: Barrier, uid: str, batches: Sequence[pa.RecordBatch]) -> FileRef:
        rows = sum(batch.num_rows for batch in batches)
        return self._put(self._name("outbox", uid, barrier, 0, "arrow"), seal(batches), rows)

    def _put(self, name: str, data: bytes, rows: int) -> FileRef:
        self._store.create(name, data)
        failpoint("worker.mid-upload")
        return FileRef(name, len(data), hashlib.sha256(data).hexdigest(), rows)


def _settle(futures: Sequence[Future[FileRef]]) -> None:
    """Wait for all, so that no upload of a failed try runs into the next one; then raise the first error."""
    errors = [future.exception() for future in futures]
    for error in errors:
        if error is not None:
            raise error


def _state_file(uid: str, run: pl.DataFrame, file: FileRef) -> StateFile:
    groups = run.get_column(KEY_GROUP)
    low, high = groups.min(), groups.max()
    assert isinstance(low, int)
    assert isinstance(high, int)
    return StateFile(uid, file, low, high + 1)
