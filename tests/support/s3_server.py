"""A real S3-compatible server for tests: versitygw where it is installed, else s3proxy, on a free loopback port.

`TIDEGATE_VERSITYGW` and `TIDEGATE_S3PROXY` (a program, a jar) say which one to use.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

KEY = "TIDEGATETESTKEY"
SECRET = "tidegate-test-secret"
REGION = "us-east-1"
START_S_MAX = 30.0
CACHE = Path(__file__).parents[2] / ".cache"
HOW = "run `make setup`, or install versitygw (go install github.com/versity/versitygw/cmd/versitygw@v1.8.0)"


class S3Server:
    """One server process and its folder of buckets; it can be stopped, frozen and started again on the same port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables that lead a client here."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str) -> str:
        """Make a bucket; both servers keep one as a folder."""
        (self.folder / "buckets" / name).mkdir(parents=True, exist_ok=True)
        return name

    def start(self) -> None:
        """Start the server and wait until it answers."""
        (self.folder / "buckets").mkdir(parents=True, exist_ok=True)
        command, variables = self._command()
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **variables}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        until = time.monotonic() + START_S_MAX
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} did not start: {(self.folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End the server as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def freeze(self) -> None:
        """Stop the server without closing its connections."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self._process is None:
            raise RuntimeError("the server is not running")
        os.kill(self._process.pid, number)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.endpoint, timeout=1):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def _command(self) -> tuple[list[str], dict[str, str]]:
        versitygw = None if "TIDEGATE_S3PROXY" in os.environ else _find_versitygw()
        if versitygw is not None:
            options = ["--port", f"127.0.0.1:{self.port}", "--region", REGION, "--quiet"]
            command = [versitygw, *options, "posix", "--disableotmp", str(self.folder / "buckets")]
            return command, {"ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET}
        jar = _find_s3proxy()
        if jar is None:
            raise RuntimeError(f"no S3-compatible server for tests was found: {HOW}")
        properties = self.folder / "s3proxy.properties"
        properties.write_text(
            f"s3proxy.endpoint={self.endpoint}\ns3proxy.authorization=aws-v2-or-v4\ns3proxy.identity={KEY}\n"
            f"s3proxy.credential={SECRET}\njclouds.provider=filesystem-nio2\n"
            f"jclouds.filesystem.basedir={self.folder / 'buckets'}\n"
        )
        return ["java", "-Xmx256m", "-jar", jar, "--properties", str(properties)], {}


def _find_versitygw() -> str | None:
    for place in (os.environ.get("TIDEGATE_VERSITYGW"), CACHE / "bin" / "versitygw", Path.home() / "go/bin/versitygw"):
        if place and os.access(place, os.X_OK):
            return str(place)
    return shutil.which("versitygw")


def _find_s3proxy() -> str | None:
    given = os.environ.get("TIDEGATE_S3PROXY")
    return given or next((str(jar) for jar in sorted(CACHE.glob("s3proxy/s3proxy-*.jar"))), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
