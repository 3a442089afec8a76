"""Plays the demo: starts the job, kills a worker with -9 on the way, and shows that nothing is lost or doubled."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..engine.errors import TidegateError
from .check import differences, expected, output
from .orders import write_orders

FILES: Final = 4
ROWS_PER_FILE: Final = 500_000
STEP_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.05
STARTED: Final = re.compile(r"worker (\d+) started pid=(\d+)")
SHOWN: Final = re.compile(r"recover|killed|failed|running|stopped|finished|pending|started")
QUERY: Final = "select epoch, phase, trigger, attempt, rows, bytes from checkpoints order by epoch desc limit 5"
STATE: Final = """
select country, count(*) as windows, sum(net) as net
from state('revenue', epoch => {epoch}) group by 1 order by 1 limit 5
""".strip()

Echo = Callable[[str], None]


def run_demo(folder: Path | None, echo: Echo) -> int:
    """Play the demo in `folder` (default: a new temporary one, which is kept) and return the exit code."""
    place = folder or Path(tempfile.mkdtemp(prefix="tidegate-demo-"))
    if (place / "checkpoints").exists() or (place / "revenue").exists():
        raise TidegateError(f"folder {place} holds an earlier demo", hint="remove it, or give another --folder")
    began = time.monotonic()
    rows = write_orders(place / "orders", FILES, ROWS_PER_FILE)
    echo(f"1. {rows:,} generated orders in {FILES} files below {place / 'orders'}")
    echo("2. the job: revenue per country, customer and 10 s of event time, two workers, a checkpoint every 250 ms")
    code, epoch = _run_and_kill(place, echo)
    if code != 0:
        echo(f"the job ended with exit code {code}; its log is {place / 'log'}")
        return 1
    want, have = expected(place / "orders"), output(place / "revenue")
    missing, more = differences(want, have)
    echo(f"4. plain Polars over the same orders: {want.height:,} rows; the job wrote {have.height:,}")
    echo(f"   missing {missing}, doubled or wrong {more}")
    if missing or more:
        return 1
    echo("5. what the job knew, in SQL:")
    _sql(place, QUERY, echo)
    if epoch:
        _sql(place, STATE.format(epoch=epoch), echo)
    echo(f"done in {time.monotonic() - began:.0f} s. Next:")
    echo(f"   look at the job file     {Path(__file__).parent / 'job.py'}")
    echo(f"   ask something else       tidegate sql demo 'from source_offsets' --storage {place / 'checkpoints'}")
    echo("   your own job on Kafka    the ten lines at the top of the README")
    return 0


def _run_and_kill(place: Path, echo: Echo) -> tuple[int, int]:
    """Run the job and kill a worker after the first output; return the exit code and the epoch of the kill."""
    log = place / "log"
    options = (
        "--workers",
        "2",
        "--checkpoint-interval",
        "250ms",
        "--storage",
        str(place / "checkpoints"),
        "--retain",
        "50",
    )
    command = [sys.executable, "-m", "tidegate", "run", str(Path(__file__).parent / "job.py"), *options]
    with log.open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            command,
            env={**os.environ, "DEMO_FOLDER": str(place)},
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
        )
    shown = _Follow(log, echo)
    deadline = time.monotonic() + STEP_TIMEOUT_S
    epoch, killed = 0, False
    while process.poll() is None and time.monotonic() < deadline:
        shown.more()
        epochs = sorted(int(p.name.split("-")[-2]) for p in (place / "revenue").glob("*.jsonl"))
        if epochs and not killed and (pids := STARTED.findall(log.read_text())):
            os.kill(int(pids[-1][1]), signal.SIGKILL)
            killed, epoch = True, epochs[-1]
            echo(f"3. epoch {epoch} is committed: kill -9 {pids[-1][1]} (worker {pids[-1][0]})")
        time.sleep(POLL_S)
    if process.poll() is None:
        process.kill()
    shown.more()
    if not killed:
        echo("   the job was over before a worker could be killed")
        return 1, 0
    return process.wait(STEP_TIMEOUT_S), epoch


class _Follow:
    """Shows the telling lines of a log as it grows."""

    def __init__(self, log: Path, echo: Echo) -> None:
        self._log = log
        self._echo = echo
        self._seen = 0

    def more(self) -> None:
        """Show what came since the last call."""
        lines = self._log.read_text(errors="replace").splitlines(keepends=True)
        whole = [line.rstrip() for line in lines if line.endswith("\n")]
        for line in whole[self._seen :]:
            if SHOWN.search(line):
                self._echo(f"   | {line}")
        self._seen = len(whole)


def _sql(place: Path, query: str, echo: Echo) -> None:
    echo(f'   tidegate sql demo "{query}"')
    command = [sys.executable, "-m", "tidegate", "sql", "demo", query, "--storage", str(place / "checkpoints")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=STEP_TIMEOUT_S, check=False)  # noqa: S603
    for line in (answer.stdout or answer.stderr).splitlines():
        echo(f"   {line}")
