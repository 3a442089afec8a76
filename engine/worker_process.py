"""The main function of a worker process."""

from __future__ import annotations

import logging
import signal
import socket

from . import logs
from .control import Control
from .errors import TidegateError
from .messages import Failed
from .wire import FrameSocket
from .worker import Worker

log = logging.getLogger(__name__)


def run_worker(control_fd: int, listener_fd: int) -> int:
    """Run the worker whose coordinator holds the other end of `control_fd`; return the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = Control(FrameSocket(socket.socket(fileno=control_fd)))
    setup = control.setup()
    logs.configure_worker(as_json=setup.settings.json_logs, job=setup.job, attempt=setup.attempt, worker=setup.subtask)
    try:
        worker = Worker(setup, control, socket.socket(fileno=listener_fd))
        worker.run()
    except Exception as error:
        # The last message of a worker says why it ends; the coordinator decides what becomes of the job.
        control.send(_failure(error))
        if not isinstance(error, TidegateError):
            log.exception("ended by a defect")
        return error.exit_code if isinstance(error, TidegateError) else 1
    return 0


def _failure(error: Exception) -> Failed:
    if isinstance(error, TidegateError):
        return Failed(type(error).__name__, error.message, error.hint, error.retryable, error.exit_code)
    return Failed(type(error).__name__, f"{type(error).__name__}: {error}", "", retryable=True, exit_code=1)
