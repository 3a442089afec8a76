"""Plays the demo: starts the job, kills a worker with -9 on the way, and shows that nothing is lost or doubled.

What it tells is plain text: steps begin with a number, lines of the job's log with `   | `, commands with `   $ `.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..engine.errors import JobInvalidError
from .check import differences, expected, output
from .orders import write_orders
from .process import JOB, DemoJob

FILES: Final = 4
ROWS_PER_FILE: Final = 500_000
RUN_TIMEOUT_S: Final = 120.0
SQL_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.05
LOG_LINES: Final = 20
"""Last lines of the log that are told when the job failed."""
CHECKPOINTS: Final = "select epoch, phase, attempt, state_rows, output_rows from checkpoints order by 1 desc limit 5"
STATE: Final = (
    "select country, count(*) as open_windows, sum(net) as net from state('revenue', epoch => {epoch}) "
    "group by all order by country limit 5"
)

Echo = Callable[[str], None]


def run_demo(folder: Path | None, echo: Echo) -> int:
    """Play the demo in `folder` (default: a new temporary one) and return the exit code.

    Raises `JobInvalidError` for a folder that holds an earlier demo. The orders are removed again from a temporary
    folder; everything else stays, to be looked at.
    """
    place = Path(tempfile.mkdtemp(prefix="tidegate-demo-")) if folder is None else folder
    if any((place / name).exists() for name in ("orders", "checkpoints", "revenue")):
        raise JobInvalidError(f"folder {place} holds an earlier demo", hint="remove it, or give another --folder")
    began = time.monotonic()
    rows = write_orders(place / "orders", FILES, ROWS_PER_FILE)
    echo(f"1. {rows:,} orders in {FILES} files, generated in {place / 'orders'}")
    echo("2. The job: revenue per country, customer and 10 s of event time; two workers, exactly-once")
    epoch = _run_and_hurt(place, echo)
    if epoch is None:
        return 1
    if not _check(place, echo):
        return 1
    echo("5. What the job knows, in SQL")
    if not all(_sql(place, query, echo) for query in (CHECKPOINTS, STATE.format(epoch=epoch))):
        return 1
    echo(f"6. Done in {time.monotonic() - began:.0f} s. What to do next")
    echo(f"   read the job file             {JOB}")
    echo(f"   look at the output            {place / 'revenue'}")
    echo(f"   ask something else            {_sql_command(place, 'from source_offsets')}")
    echo("   write a job of your own       job.py, then: tidegate run job.py --workers 2")
    if folder is None:
        shutil.rmtree(place / "orders")
        echo(f"   remove what is left           rm -r {place}")
    return 0


def _run_and_hurt(place: Path, echo: Echo) -> int | None:
    """Run the job, kill a worker after the first output, and return the epoch of the kill; None if all went wrong."""
    job = DemoJob(place)
    until = time.monotonic() + RUN_TIMEOUT_S
    epoch = 0
    try:
        while job.exit_code is None and time.monotonic() < until:
            _tell(job, echo)
            if not epoch and (visible := job.visible_epoch()) and (killed := job.kill_worker()):
                epoch = visible
                echo(f"3. Output up to epoch {epoch} is visible. Now: kill -9 {killed[1]} (worker {killed[0]})")
            time.sleep(POLL_S)
        _tell(job, echo)
    finally:
        job.end()
    if epoch and job.exit_code == 0:
        return epoch
    echo(f"The job ended with exit code {job.exit_code}, and {'after' if epoch else 'before'} a worker was killed.")
    for line in job.log.read_text(errors="replace").splitlines()[-LOG_LINES:]:
        echo(f"   | {line}")
    return None


def _tell(job: DemoJob, echo: Echo) -> None:
    for line in job.news():
        echo(f"   | {line}")


def _check(place: Path, echo: Echo) -> bool:
    want, have = expected(place / "orders"), output(place / "revenue")
    missing, more = differences(want, have)
    echo(f"4. Plain Polars over the same orders finds {want.height:,} rows; the job wrote {have.height:,}")
    echo(f"   missing: {missing:,}   doubled or wrong: {more:,}")
    return not missing and not more


def _sql_command(place: Path, query: str) -> str:
    return f'tidegate sql demo "{query}" --storage {shlex.quote(str(place / "checkpoints"))}'


def _sql(place: Path, query: str, echo: Echo) -> bool:
    echo(f"   $ {_sql_command(place, query)}")
    command = [sys.executable, "-m", "tidegate", "sql", "demo", query, "--storage", str(place / "checkpoints")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=SQL_TIMEOUT_S, check=False)  # noqa: S603 (our own program)
    for line in (answer.stdout or answer.stderr).splitlines():
        echo(f"   {line}")
    return answer.returncode == 0
