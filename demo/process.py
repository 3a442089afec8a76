"""The demo's job as a process of its own: started, followed through its log, hurt, and ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

JOB: Final = Path(__file__).with_name("job.py")
END_TIMEOUT_S: Final = 10.0
WORDS_MAX: Final = 100
"""Letters of a log line that are shown."""
_WORKER: Final = re.compile(r"worker (\d+) started pid=(\d+)")
_LINE: Final = re.compile(r"\S+ (?P<time>[\d:]+)\S* (?P<level>[A-Z]+) +\S+ (?P<words>.*)")
_TELLING: Final = re.compile(r"recovering from|failed|killed|running|finish|committing|started|stopped")


class DemoJob:
    """The job in `place`: its log is `place/log`, its output `place/revenue`, its checkpoints `place/checkpoints`."""

    def __init__(self, place: Path) -> None:
        self.log = place / "log"
        self._revenue = place / "revenue"
        self._shown = 0
        options = ("--workers", "2", "--checkpoint-interval", "250ms", "--retain", "50")
        with self.log.open("wb") as stream:
            self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                [sys.executable, "-m", "tidegate", "run", str(JOB), "--storage", str(place / "checkpoints"), *options],
                env={**os.environ, "DEMO_FOLDER": str(place)},
                stdout=stream,
                stderr=stream,
                stdin=subprocess.DEVNULL,
            )

    @property
    def exit_code(self) -> int | None:
        """How the job ended; None while it runs."""
        return self._process.poll()

    def visible_epoch(self) -> int:
        """Return the newest epoch of which output is visible; 0 before there is one."""
        return max((int(path.name.split("-")[-2]) for path in self._revenue.glob("*.jsonl")), default=0)

    def kill_worker(self) -> tuple[int, int] | None:
        """Kill a worker as `kill -9` does; return its number and pid, or None if there is none to be killed."""
        workers = _WORKER.findall(self.log.read_text(errors="replace"))
        if not workers:
            return None
        number, pid = map(int, workers[-1])
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return None
        return number, pid

    def news(self) -> Iterator[str]:
        """Yield the telling lines that the log has got since the last call."""
        lines = self.log.read_text(errors="replace").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        for line in whole[self._shown :]:
            found = _LINE.match(line)
            if found and _TELLING.search(found["words"]):
                words = found["words"].rstrip()
                cut = words if len(words) <= WORDS_MAX else words[: WORDS_MAX - 3] + "..."
                yield f"{found['time']} {found['level']:<7} {cut}"
        self._shown = len(whole)

    def end(self) -> None:
        """See to it that nothing of the job runs any more."""
        if self._process.poll() is None:
            self._process.terminate()
            until = time.monotonic() + END_TIMEOUT_S
            while self._process.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
