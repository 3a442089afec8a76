"""Watches the workers of an attempt: signs of life, figures for the status, and why one ended."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from .cluster import WorkerProcess
from .context import Facts
from .errors import FencedError, LedgerAheadError, TidegateError, WorkerLostError
from .messages import Failed, Progress
from .status import COUNTED

REPORT_INTERVAL_S: Final = 0.5
RATE_INTERVAL_S: Final = 1.0
SETUP_SILENCE_MAX_S: Final = 120.0
"""How long a worker may be silent while it loads the job and restores state."""
EXIT_WAIT_S: Final = 5.0


class Supervision:
    """Knows when each worker was heard last, and what it said of its progress."""

    def __init__(self, facts: Facts) -> None:
        self._f = facts
        self._progress: dict[int, Progress] = {}
        self._heard: dict[int, float] = {}
        self._report_at = 0.0
        self._rate = (time.monotonic(), 0)
        self._base: Mapping[str, int] = {}

    def running(self) -> None:
        """Begin to count from the totals of the checkpoint that the attempt goes on from."""
        status = self._f.context.status
        self._base = self._f.newest.counters
        if status.before is None:
            status.before = self._base
        status.count(self._base)
        self._rate = (time.monotonic(), status.rows_in)

    def heard(self, worker: int) -> None:
        """Note a sign of life."""
        self._heard[worker] = time.monotonic()

    def progress(self, worker: int, message: Progress) -> None:
        """Note a worker's figures."""
        self._progress[worker] = message

    def gone(self, worker: WorkerProcess) -> None:
        """End the attempt because a worker closed its control channel."""
        code = worker.process.wait(timeout=EXIT_WAIT_S)
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        self._f.end("failed", WorkerLostError(f"worker {worker.index} (pid {worker.process.pid}) {how}"))

    def failed(self, worker: int, message: Failed) -> None:
        """End the attempt because a worker said why it ends."""
        if message.exit_code == FencedError.exit_code:
            newest = self._f.highest_attempt()
            if newest > self._f.number:
                self._f.end("failed", self._f.fenced_by(newest))
                return
            error = TidegateError(
                message.message, hint="no newer attempt exists: recovering under a new attempt number"
            )
            error.retryable = True
        else:
            error = TidegateError(f"worker {worker}: {message.message}", hint=message.hint)
            # A ledger that is ahead is a race with somebody who decided meanwhile, or manifests that are gone.
            raced = message.error == LedgerAheadError.__name__ and self._decided_meanwhile()
            error.retryable = message.retryable or raced
            error.exit_code = message.exit_code
        self._f.end("failed", error)

    def _decided_meanwhile(self) -> bool:
        return max(self._f.context.log.epochs(), default=0) > self._f.newest.epoch

    def check_alive(self, now: float, running: bool) -> None:
        """End the attempt when a worker has been silent for too long."""
        bound = self._f.context.settings.worker_timeout_s if running else SETUP_SILENCE_MAX_S
        for worker in self._f.cluster.workers:
            quiet = now - self._heard.get(worker.index, now)
            if quiet > bound:
                text = f"worker {worker.index} (pid {worker.process.pid}) has been silent for {quiet:.0f} s"
                self._f.end("failed", WorkerLostError(text, hint="it is killed and the job recovers"))

    def report(self, now: float) -> None:
        """Bring the status up to date and report it, now and then."""
        if now < self._report_at:
            return
        self._report_at = now + REPORT_INTERVAL_S
        status, progress = self._f.context.status, list(self._progress.values())
        if progress:
            status.count({name: self._base.get(name, 0) + sum(getattr(p, name) for p in progress) for name in COUNTED})
        status.backlog_bytes = sum(p.backlog_bytes for p in progress)
        status.state_rows = sum(p.state_rows for p in progress)
        status.state_bytes = sum(p.state_bytes for p in progress)
        status.watermark = min((p.watermark for p in progress if p.watermark is not None), default=None)
        status.caught_up = bool(progress) and all(p.caught_up for p in progress)
        before, rows = self._rate
        if now - before >= RATE_INTERVAL_S:
            status.rows_per_s = max(status.rows_in - rows, 0) / (now - before)
            self._rate = (now, status.rows_in)
        self._f.context.report(status)
