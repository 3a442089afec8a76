"""The catalog of one job: an index of attempts and checkpoints, kept in memory and copied for readers after changes.

It starts from the reader's copy of the last run and the manifests that this copy lacks. Nothing it does can fail the
job: an unreadable copy is moved aside and made again, and every other failure is logged once until it is over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from ..engine.errors import CorruptError, JobInvalidError, StoreMissingError, TidegateError
from ..engine.ports.log import CheckpointLog
from ..engine.protocol.manifest import Manifest
from .catalog_publish import Publisher, move_aside, reader_path, replace, sweep
from .catalog_schema import HISTORY_MAX, CatalogError, UnreadableError
from .log import StoreLog, open_log

if TYPE_CHECKING:
    from .catalog_database import CatalogDatabase

log = logging.getLogger(__name__)

READ_THREADS: Final = 8
ATTEMPTS_MAX: Final = 100
"""Newest attempts whose objects are read."""
RETRY_PAUSE_S: Final = 30.0
"""Pause before manifests that could not be read are asked for again."""
_FAILURES: Final = (CatalogError, OSError, TidegateError)


class DuckCatalog:
    """A `Catalog`. Opens lazily, at the first change, so that the start of a job does not wait for it. Thread-safe."""

    def __init__(self, storage: str, job: str, job_log: CheckpointLog) -> None:
        self._storage = storage
        self._job = job
        self._log = job_log
        self._path = reader_path(storage, job)
        self._lock = threading.RLock()
        self._database: CatalogDatabase | None = None
        self._catch_up_at: float | None = 0.0
        self._dirty = False
        self._closed = False
        self._failing = ""
        self._publisher = Publisher(self.publish)

    def attempt(self, attempt: int, phase: str, about: Mapping[str, object]) -> None:
        """Record that an attempt entered a phase."""
        at = _now_ms()
        self._change(lambda database: database.enter(attempt, phase, about.get("workers"), at))

    def decided(self, manifest: Manifest, durations_ms: Mapping[str, float], trigger: str) -> None:
        """Record a decided checkpoint."""
        self._change(lambda database: database.add([manifest], durations_ms, trigger))

    def committed(self, epoch: int, at_ms: int) -> None:
        """Record that all output up to `epoch` is committed."""
        self._change(lambda database: database.commit(epoch, at_ms))

    def failed(self, epoch: int, tries: int, reason: str) -> None:
        """Record a failed checkpoint try."""
        at = _now_ms()
        self._change(lambda database: database.fail(epoch, tries, at, reason))

    def retired(self, epochs: list[int]) -> None:
        """Forget the details of checkpoints whose manifests are gone."""
        self._change(lambda database: database.retire(epochs))

    def publish(self) -> None:
        """Replace the reader's copy now, if anything is new."""
        with self._lock:
            if self._dirty and self._database is not None and self._path is not None:
                path, database = self._path, self._database
                self._dirty = not self._guard("publish", lambda: replace(path, database.write))

    def close(self) -> None:
        """Publish and release the database."""
        self._publisher.close()
        with self._lock:
            self.publish()
            self._closed = True
            if self._database is not None:
                self._database.close()
                self._database = None

    def _change(self, work: Callable[[CatalogDatabase], None]) -> None:
        with self._lock:
            if self._closed or not self._guard("update", lambda: work(self._open())):
                return
            self._dirty = True
        self._publisher.change()

    def _open(self) -> CatalogDatabase:
        if self._database is None:
            self._database = self._loaded()
        if self._catch_up_at is not None and time.monotonic() >= self._catch_up_at:
            self._catch_up_at = time.monotonic() + RETRY_PAUSE_S
            database = self._database
            if self._guard("bring up to date", lambda: catch_up(database, self._log)):
                self._catch_up_at = None
        return self._database

    def _loaded(self) -> CatalogDatabase:
        database = _new_database(self._job, self._log)
        if self._path is None or not self._path.exists():
            return database
        sweep(self._path)
        try:
            database.load(self._path)
        except UnreadableError as error:
            log.warning("catalog %s cannot be read and is made again: %s", self._path, error)
            path = self._path
            self._guard("move aside", lambda: move_aside(path))
        return database

    def _guard(self, what: str, work: Callable[[], object]) -> bool:
        """Do something that may fail; say so once until it works again."""
        try:
            work()
        except _FAILURES as error:
            text = f"cannot {what} the catalog: {error}"
            if text != self._failing:
                log.warning("%s (the job goes on; `tidegate catalog rebuild` makes it again)", text)
            self._failing = text
            return False
        if what == "publish":
            self._failing = ""
        return True


def open_catalog(storage: str, job: str, job_log: CheckpointLog) -> DuckCatalog:
    """Make the catalog of a job that is about to run; never raises, and touches nothing before the first change."""
    return DuckCatalog(storage, job, job_log)


def rebuild(storage: str, job: str) -> int:
    """Make the catalog of a job again from its manifests, and return how many checkpoints it has.

    Durations, commit times and failed tries are in no manifest and are lost. Raises `JobInvalidError` when there is no
    checkpoint, `StoreUnavailableError`, or `TidegateError` when the copy cannot be written.
    """
    job_log = open_log(storage, job)
    database = _new_database(job, job_log)
    try:
        catch_up(database, job_log)
        if not database.known:
            raise no_checkpoints(job, job_log)
        path = reader_path(storage, job)
        if path is not None:
            try:
                replace(path, database.write)
            except (CatalogError, OSError) as error:
                raise TidegateError(
                    f"the catalog {path} cannot be written: {error}", hint="check rights and free space there"
                ) from error
        return len(database.known)
    finally:
        database.close()


def _new_database(job: str, job_log: CheckpointLog) -> CatalogDatabase:
    from .catalog_database import CatalogDatabase  # noqa: PLC0415 - DuckDB takes 0.1 s, for which no start has to wait

    return CatalogDatabase(job, job_log.store.url)


def no_checkpoints(job: str, job_log: CheckpointLog) -> JobInvalidError:
    """Return the error for a job that never ran."""
    return JobInvalidError(
        f"job '{job}' has no checkpoints in {job_log.store.url}",
        hint="check the job's name and --storage; has it run there?",
    )


def catch_up(database: CatalogDatabase, job_log: CheckpointLog) -> bool:
    """Add what the log has and the catalog lacks; return whether anything was new.

    Manifests that vanish meanwhile or are damaged are left out. Raises `StoreUnavailableError`.
    """
    epochs = job_log.epochs()
    _forget_other_job(database, job_log, epochs)
    lacking = [epoch for epoch in epochs[-HISTORY_MAX:] if epoch not in database.known]
    known = database.attempts()
    attempts = [attempt for attempt in job_log.attempts()[-ATTEMPTS_MAX:] if attempt not in known]
    with ThreadPoolExecutor(READ_THREADS, thread_name_prefix="catalog-read") as threads:
        manifests = [m for m in threads.map(lambda epoch: _read(job_log, epoch), lacking) if m is not None]
        about = list(threads.map(lambda attempt: _read_attempt(job_log, attempt), attempts))
    for attempt, said in zip(attempts, about, strict=True):
        started = said.get("started_ms")
        database.enter(attempt, None, said.get("workers"), started if isinstance(started, int) else None)
    database.add(manifests, {})
    gone = database.live() - set(epochs)
    database.retire(gone)
    return bool(manifests or attempts or gone)


def _forget_other_job(database: CatalogDatabase, job_log: CheckpointLog, epochs: object) -> None:
    """Start empty where the storage was wiped and a new job of the same name runs on it."""
    known = database.job_uid()
    newest = job_log.newest() if known is not None and epochs else None
    if newest is not None and newest.job_uid != known:
        log.warning("the catalog of job '%s' belongs to an earlier job of this name and is made again", newest.job)
        database.clear()


def _read(job_log: CheckpointLog, epoch: int) -> Manifest | None:
    try:
        return job_log.read(epoch)
    except StoreMissingError:
        return None  # it retired after it was listed
    except (CorruptError, JobInvalidError) as error:
        log.warning("the catalog leaves checkpoint %d out: %s", epoch, error.message)
        return None


def _read_attempt(job_log: CheckpointLog, attempt: int) -> Mapping[str, object]:
    if not isinstance(job_log, StoreLog):
        return {}
    try:
        return job_log.read_attempt(attempt)
    except (StoreMissingError, CorruptError, JobInvalidError) as error:
        log.warning("the catalog knows little of attempt %d: %s", attempt, error.message)
        return {}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
