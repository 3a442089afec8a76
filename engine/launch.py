"""Runs a job: refuses a second start, and starts attempt after attempt until the job ends."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from . import logs
from .attempt import Attempt
from .background import Background
from .context import Context, Ended
from .errors import AlreadyRunningError, TidegateError
from .ids import KEY_GROUPS_DEFAULT
from .loading import reference_for
from .runtime import LivenessLock, installed
from .settings import Settings
from .status import Reporter, Status

if TYPE_CHECKING:
    from .job import Job

log = logging.getLogger(__name__)

BEAT_INTERVAL_S: Final = 1.0
SUCCESS_RESETS_RESTARTS_AFTER_S: Final = 60.0
"""An attempt that decided epochs for this long makes the count of restarts in a row begin again."""
INTERRUPTED_EXIT_CODE: Final = 130


@dataclass(frozen=True)
class Result:
    """How a run ended: `finished` or `stopped`, with its last figures."""

    how: str
    status: Status


def run_job(job: Job, settings: Settings, reporter: Reporter | None = None) -> Result:
    """Run a job until it finishes or is stopped.

    Raises `AlreadyRunningError` when another attempt is alive, `FencedError` when a newer one took over, and whatever
    ended the last attempt when the job cannot go on. SIGINT and SIGTERM stop it with a final checkpoint; a second one
    raises `KeyboardInterrupt`.
    """
    logs.configure_if_unset(as_json=settings.json_logs, job=job.name)
    graph = job.graph()
    job.check_delivery(settings.delivery)
    runtime = installed()
    reference = str(reference_for(job))
    job_log = runtime.open_log(settings.storage, job.name)
    lock = runtime.open_lock(settings.storage, job.name, job_log)
    if not lock.acquire() and not settings.takeover:
        raise AlreadyRunningError(
            f"job '{job.name}' is already running on storage {job_log.store.url}",
            hint="stop it first, or start with --takeover, which fences it",
        )
    background = Background()
    catalog = runtime.open_catalog(settings.storage, job.name, job_log)
    status = Status(job.name)
    key_groups = job.key_groups or KEY_GROUPS_DEFAULT

    def report(status: Status) -> None:
        logs.ABOUT.attempt = status.attempt
        if reporter is not None:
            reporter(status)

    context = Context(
        job.name, reference, graph, key_groups, settings, runtime, job_log, catalog, background, report, status
    )
    run = _Run(context, lock)
    try:
        with _StopSignals(run.request_stop):
            return run.until_end()
    finally:
        background.close(wait=True)
        catalog.close()
        lock.release()


class _Run:
    """Attempt after attempt of one run."""

    def __init__(self, context: Context, lock: LivenessLock) -> None:
        self._context = context
        self._lock = lock
        self._stop = threading.Event()
        self._stop_until_s = math.inf
        self._attempt: Attempt | None = None
        self._restarts = 0

    def request_stop(self) -> None:
        """Ask for the end with a final checkpoint; a signal handler may call this."""
        self._stop_until_s = time.monotonic() + self._context.settings.stop_timeout_s
        self._stop.set()
        if self._attempt is not None:
            self._attempt.request_stop()

    def until_end(self) -> Result:
        """Run attempts until one ends the job."""
        beating = threading.Thread(target=self._beat, name="beat", daemon=True)
        beating.start()
        context = self._context
        while True:
            started = time.monotonic()
            self._attempt = Attempt(context)
            if self._stop.is_set():
                self._attempt.request_stop()
            ended = self._attempt.run()
            if ended.how in {"finished", "stopped"}:
                context.status.phase = ended.how
                context.report(context.status)
                return Result(ended.how, context.status)
            self._restart_or_raise(ended, time.monotonic() - started)

    def _restart_or_raise(self, ended: Ended, lasted_s: float) -> None:
        context, error = self._context, ended.error
        settings = context.settings
        if ended.progressed and lasted_s >= SUCCESS_RESETS_RESTARTS_AFTER_S:
            self._restarts = 0
        if error is not None:
            context.status.last_failure = str(error)
            late = time.monotonic() > self._stop_until_s
            if not error.retryable or late or self._restarts >= settings.restarts:
                context.status.phase = "failed"
                context.report(context.status)
                if error.retryable and late:
                    log.error(
                        "giving up %g s after the stop; the next start goes on from here", settings.stop_timeout_s
                    )
                elif error.retryable:
                    log.error("giving up after %d restarts", self._restarts)
                raise error
            log.warning("attempt %d failed: %s", context.status.attempt, error)
        pause = min(settings.restart_backoff_s * 2**self._restarts, settings.restart_backoff_max_s)
        pause = pause if self._restarts or error is None else 0.0  # the first restart need not wait
        self._restarts += 1
        context.status.restarts += 1
        context.status.phase = "restarting"
        context.report(context.status)
        log.info("restarting in %.1f s (restart %d of %d)", pause, self._restarts, settings.restarts)
        if self._stop.is_set():
            time.sleep(pause)
        else:
            self._stop.wait(pause)

    def _beat(self) -> None:
        pulse = threading.Event()
        while not pulse.wait(BEAT_INTERVAL_S):
            try:
                self._lock.beat()
            except TidegateError as error:
                log.warning("no sign of life could be written: %s", error)


class _StopSignals:
    """Turns the first SIGINT or SIGTERM into a stop request and the second one into `KeyboardInterrupt`."""

    def __init__(self, request_stop: Callable[[], None]) -> None:
        self._request_stop = request_stop
        self._seen = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._seen:
            raise KeyboardInterrupt
        self._seen = True
        log.info("stopping with a final checkpoint; once more stops at once")
        self._request_stop()
