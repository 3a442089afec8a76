"""Server processes that tests start, freeze, kill and start again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

STOP_TIMEOUT_S: Final = 30.0
POLL_S: Final = 0.02
LOG_TAIL_BYTES: Final = 4000
# Below the range from which kernels choose the ports of clients: nobody takes the port of a server that is down.
PORTS: Final = range(20_000, 32_000)
PORT_TRIES_MAX: Final = 200


class ServiceError(Exception):
    """A test server could not be downloaded, started or stopped."""


def wait_until(what: str, ready: Callable[[], bool], timeout_s: float) -> None:
    """Poll `ready` until it is true; raise ServiceError, which names `what`, after `timeout_s`."""
    until = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > until:
            raise ServiceError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(POLL_S)


def free_port() -> int:
    """A loopback port nobody listens on."""
    for _ in range(PORT_TRIES_MAX):
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServiceError(f"no free port between {PORTS.start} and {PORTS.stop}")


def accepts(port: int) -> bool:
    """Whether somebody listens on the loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class ServerProcess:
    """One server process with its log file; it dies with the process that started it."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise ServiceError(f"{self.name} is not running")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process exists (frozen counts)."""
        return self._process is not None and self._process.poll() is None

    def launch(
        self, command: Sequence[str], ready: Callable[[], bool], timeout_s: float, environment: Mapping[str, str]
    ) -> None:
        """Start `command` and wait until `ready`; a process that ends earlier is an error that shows its log."""
        if self.alive:
            raise ServiceError(f"{self.name} is already running as process {self.pid}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*_dying_with_us(), *command],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in a terminal is for the test run, which then stops its servers in order.
                start_new_session=True,
            )
        try:
            wait_until(f"{self.name} to answer", lambda: not self.alive or ready(), timeout_s)
        except ServiceError as error:
            self.kill()
            raise ServiceError(f"{error}; its log {self.log} ends with:\n{self._log_tail()}") from error
        if not self.alive:
            raise ServiceError(f"{self.name} ended at once; its log {self.log} ends with:\n{self._log_tail()}")

    def stop(self) -> None:
        """End the server in order; nothing happens if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL); nothing happens if it does not run."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the server without closing its connections (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on (SIGCONT)."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        # A frozen process receives SIGTERM only when it goes on.
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)

    def _log_tail(self) -> str:
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")


def serve_until_interrupted(server: ServerProcess, greeting: str) -> None:
    """Print `greeting`, wait for Ctrl-C or SIGTERM, and stop the running server in order."""
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    sys.stdout.write(f"{greeting}\n")
    sys.stdout.flush()
    signal.sigwait(signals)
    server.stop()


def _dying_with_us() -> list[str]:
    """On Linux: let the kernel kill the server when the thread that starts it ends, however that happens."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []
