"""Logging of the processes of a run: one line per record on stderr, as text or as JSON.

Every line carries the job, the attempt and, in worker processes, the worker. Nothing here is called by code that only
uses the library inside a program which has its own logging.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from dataclasses import dataclass
from typing import Final

ROOT: Final = "tidegate"
DEBUG_VARIABLE: Final = "TIDEGATE_DEBUG"
"""Set in the environment, and so also in workers: log details too."""
_LEVEL_WIDTH: Final = 7


@dataclass
class About:
    """What every line says about this process; the owner changes it as the run goes on."""

    job: str = ""
    attempt: int = 0
    worker: int | None = None


ABOUT: Final = About()
"""About this process."""


class TextFormatter(logging.Formatter):
    """`2026-11-23 15:59:01.250 INFO    revenue attempt 3 worker 0: message`; times are local."""

    def __init__(self, before: str = "") -> None:
        super().__init__()
        self._before = before

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and the traceback below it if there is one."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        place = _place()
        head = f"{self._before}{at}.{int(record.msecs):03} {record.levelname:{_LEVEL_WIDTH}}"
        text = f"{head} {place}{': ' if place else ''}{record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `time`, `level`, `logger`, `job`, `attempt`, `worker`, `message`, `traceback`.

    `time` is in milliseconds since the Unix epoch; `worker` and `traceback` are there when there is one.
    Lines with the figures of the run have them as an object `figures`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return one line without line breaks."""
        line: dict[str, object] = {
            "time": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "job": ABOUT.job,
            "attempt": ABOUT.attempt,
        }
        if ABOUT.worker is not None:
            line["worker"] = ABOUT.worker
        line["message"] = record.getMessage()
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line["figures"] = fields
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _place() -> str:
    words = [ABOUT.job] if ABOUT.job else []
    if ABOUT.attempt:
        words.append(f"attempt {ABOUT.attempt}")
    if ABOUT.worker is not None:
        words.append(f"worker {ABOUT.worker}")
    return " ".join(words)


def configure(*, as_json: bool, handler: logging.Handler | None = None) -> None:
    """Send Tidegate's log records to `handler` (stderr unless given), and nothing else of them anywhere.

    Other libraries' warnings take the same way; calling again replaces what was set up before.
    """
    handler = handler or logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    logger = logging.getLogger(ROOT)
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if os.environ.get(DEBUG_VARIABLE) else logging.INFO)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def configure_worker(*, as_json: bool, job: str, attempt: int, worker: int) -> None:
    """Set up the logging of a worker process."""
    ABOUT.job, ABOUT.attempt, ABOUT.worker = job, attempt, worker
    configure(as_json=as_json)
    if sys.stderr.isatty() and not as_json:
        # The coordinator may have its live line there: a log line first wipes it; it is drawn again below.
        logging.getLogger(ROOT).handlers[0].setFormatter(TextFormatter("\r\x1b[K"))


def configure_if_unset(*, as_json: bool, job: str) -> None:
    """Set up logging for a run that a plain script started, unless the program has set up logging itself."""
    ABOUT.job = job
    if not logging.getLogger().handlers and not logging.getLogger(ROOT).handlers:
        configure(as_json=as_json)
