"""Runs a job from its reference: options, monitor, result."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from ..engine.launch import Result, run_job
from ..engine.options import settings_for
from . import figures, printing
from .jobs import load_job
from .monitor import monitor

log = logging.getLogger("tidegate.run")


def run_reference(reference: str, given: Mapping[str, object]) -> int:
    """Run a job with options from the command line; return 0 when it finished or was stopped, else raise."""
    job = load_job(reference)
    settings = settings_for(job.options, None, given)
    began = time.monotonic()
    with monitor(job.name, as_json=settings.json_logs) as reporter:
        result = run_job(job, settings, reporter)
        _log_end(result)
    if settings.json_logs:
        printing.json_document(figures.result(result.how, result.status, time.monotonic() - began))
    return 0


def _log_end(result: Result) -> None:
    status = result.status
    log.info(
        "%s at epoch %d: %s records in, %s out, %s late, %s skipped, %d restarts",
        result.how,
        status.epoch,
        *(f"{count:,}" for count in (status.rows_in, status.rows_out, status.late, status.skipped)),
        status.restarts,
    )
