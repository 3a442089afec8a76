"""Shows a run while it goes on: a live line on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Final

from ..engine import logs
from ..engine.status import Reporter, Status
from . import figures

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

log = logging.getLogger("tidegate.run")

LOG_INTERVAL_S: Final = 10.0
"""Time between two log lines with the figures of a run."""
SAID_ELSEWHERE: Final = frozenset({"finished", "stopped", "restarting"})
"""Phases of which another line says more."""
BEGINNINGS: Final = frozenset({"starting", "recovering", "running"})
"""Phases at whose begin no figure says anything new."""


@contextmanager
def monitor(job: str, *, as_json: bool) -> Iterator[Reporter]:
    """Set up logging and yield the reporter of a run; the live line is gone when this ends."""
    logs.ABOUT.job = job
    if as_json or not sys.stderr.isatty():
        logs.configure(as_json=as_json)
        yield LogLines()
        return
    with _live_line() as reporter:
        yield reporter


class LogLines:
    """A reporter that logs the figures now and then, and changes of phase."""

    def __init__(self, interval_s: float = LOG_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._next = time.monotonic() + interval_s
        self._phase = ""

    def __call__(self, status: Status) -> None:
        """Take a report."""
        logs.ABOUT.attempt = status.attempt
        now = time.monotonic()
        if status.phase in SAID_ELSEWHERE or (status.phase == self._phase and now < self._next):
            return
        changed = status.phase != self._phase
        self._phase, self._next = status.phase, now + self._interval_s
        fields = {name: value for name, value in asdict(status).items() if name != "before"}
        if changed and status.phase in BEGINNINGS:
            log.info("%s", status.phase, extra={"fields": fields})
        else:
            text = figures.sentence(figures.words(status, datetime.now().astimezone()))
            log.info("%s", text, extra={"fields": fields})


@contextmanager
def _live_line() -> Iterator[Reporter]:
    from rich.console import Console  # noqa: PLC0415 (only a terminal needs it, and it takes a while)
    from rich.live import Live  # noqa: PLC0415 (likewise)

    console = Console(stderr=True)
    logs.configure(as_json=False, handler=_ConsoleHandler(console))
    # Drawn when a report comes, twice a second: no thread of its own is needed.
    live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
    with live:

        def report(status: Status) -> None:
            logs.ABOUT.attempt = status.attempt
            live.update(line(status, datetime.now().astimezone()), refresh=True)

        yield report


def line(status: Status, now: datetime) -> Text:
    """Return the live line."""
    from rich.text import Text  # noqa: PLC0415 (see above)

    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(status.job, style="bold")
    for label, value in figures.words(status, now):
        text.append("  ")
        if label:
            text.append(f"{label} ", style="dim")
        text.append(value, style=_style(label, value))
    return text


def _style(label: str, value: str) -> str:
    if value == "running":
        return "green"
    dropped = label in {"late", "skipped", "failed checkpoints"} and value != "0"
    if dropped or value in {"recovering", "restarting", "failed"}:
        return "yellow"
    return ""


class _ConsoleHandler(logging.Handler):
    """Prints log lines above the live line."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        try:
            self._console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)
        except Exception:  # noqa: BLE001 (a log line must never end a run; logging's own rule)
            self.handleError(record)
