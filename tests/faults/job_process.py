"""A job that runs through the command line in processes of its own, and ways to hurt it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

EXIT_TIMEOUT_S: Final = 90.0
JOBS: Final = Path(__file__).parent / "jobs"


class JobProcess:
    """Starts `tidegate run` and knows the pids of coordinator and workers."""

    def __init__(
        self, job: str, environment: dict[str, str], log: Path, *options: str, prefix: tuple[str, ...] = ()
    ) -> None:
        self._command = [*prefix, sys.executable, "-m", "tidegate", "run", str(JOBS / f"{job}_job.py"), *options]
        self._environment = environment
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        """Start the coordinator, which starts its workers."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._command, *more],
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    @property
    def alive(self) -> bool:
        """Whether the coordinator runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def workers(self) -> list[int]:
        """Pids of the coordinator's child processes, in the order they were started."""
        if self.process is None:
            return []
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        children: list[int] = []
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children") if path.exists() else ():
            try:
                children += [int(pid) for pid in task.read_text().split()]
            except FileNotFoundError:
                continue
        return sorted(children)

    def kill(self, *pids: int) -> None:
        """Kill processes of this job with SIGKILL; one that is gone already is fine."""
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self.process is not None and self.process.pid in pids:
            self.process.wait(EXIT_TIMEOUT_S)

    def freeze(self, *pids: int) -> None:
        """Stop processes of this job with SIGSTOP."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)

    def thaw(self, *pids: int) -> None:
        """Let stopped processes go on; one that is gone is fine."""
        for pid in pids:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue

    @property
    def pid(self) -> int:
        """Pid of the coordinator."""
        if self.process is None:
            raise AssertionError("the job was never started")
        return self.process.pid

    def stop(self) -> int:
        """Ask for a final checkpoint and return the exit code."""
        if self.process is None:
            raise AssertionError("the job was never started")
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(EXIT_TIMEOUT_S)

    def wait(self, timeout_s: float = EXIT_TIMEOUT_S) -> int:
        """Wait for the end and return the exit code."""
        if self.process is None:
            raise AssertionError("the job was never started")
        return self.process.wait(timeout_s)

    @property
    def log(self) -> str:
        """Everything that the job has logged."""
        return self._log.read_text(errors="replace")
