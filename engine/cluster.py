"""Process supervision: starts the workers of one attempt on this machine, and makes sure they are gone afterwards."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .messages import ToWorker, encode
from .wire import FrameSocket

log = logging.getLogger(__name__)

STDERR: Final = 2
EXIT_WAIT_S: Final = 5.0
"""How long workers may take to leave by themselves before they are killed."""
KILL_WAIT_S: Final = 20.0
LISTEN_BACKLOG: Final = 1024


@dataclass(frozen=True)
class WorkerProcess:
    """One running worker."""

    index: int
    process: subprocess.Popen[bytes]
    control: FrameSocket

    def send(self, message: ToWorker) -> bool:
        """Send a message; False when the worker is gone (its exit is noticed elsewhere)."""
        try:
            self.control.send(encode(message))
        except OSError:
            return False
        return True


class Cluster:
    """The workers of one attempt. Sockets live in a folder that only this user may enter."""

    def __init__(self, parallelism: int) -> None:
        self.token = secrets.token_hex(32)
        self._folder = Path(tempfile.mkdtemp(prefix="tidegate-"))
        self.peers = [str(self._folder / f"{index}.sock") for index in range(parallelism)]
        self.workers: list[WorkerProcess] = []

    def start(self) -> None:
        """Start all workers; each inherits its control socket and a listening socket that peers can already reach."""
        listeners = []
        for path in self.peers:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(path)
            listener.listen(LISTEN_BACKLOG)
            listeners.append(listener)
        for index, listener in enumerate(listeners):
            self.workers.append(self._spawn(index, listener))
            listener.close()

    def _spawn(self, index: int, listener: socket.socket) -> WorkerProcess:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "tidegate", "_worker", str(theirs.fileno()), str(listener.fileno())]
            environment = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **os.environ}
            process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
                command,
                env=environment,
                pass_fds=(theirs.fileno(), listener.fileno()),
                stdin=subprocess.DEVNULL,
                # What a job's functions print must not get into the result that the command line prints.
                stdout=STDERR,
                # Out of the terminal's foreground group: Ctrl-C is the coordinator's to handle.
                process_group=0,
            )
        log.info("worker %d started pid=%d", index, process.pid)
        return WorkerProcess(index, process, FrameSocket(ours))

    def leave(self) -> None:
        """Wait a little for workers that were told to leave, then kill what is left."""
        for worker in self.workers:
            try:
                worker.process.wait(EXIT_WAIT_S)
            except subprocess.TimeoutExpired:
                break
        self.kill()

    def kill(self) -> None:
        """Kill every worker (also a stopped one) and wait until it is gone; release the sockets."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
        for worker in self.workers:
            try:
                worker.process.wait(KILL_WAIT_S)
            except subprocess.TimeoutExpired:
                pid = worker.process.pid
                log.warning("worker %d (pid %d) did not die within %.0f s of SIGKILL", worker.index, pid, KILL_WAIT_S)
            worker.control.close()
        self.workers = []
        shutil.rmtree(self._folder, ignore_errors=True)
