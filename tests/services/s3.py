"""A real S3-compatible server on loopback: versitygw where Go can build it, else s3proxy.

    python -m tests.services.s3 --port 9000 --folder .cache/s3

runs one by hand until Ctrl-C. Both servers keep a bucket as a folder.
"""

from __future__ import annotations

import argparse
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from .downloads import java, s3proxy_jar, versitygw
from .processes import ServerProcess, accepts, free_port, serve_until_interrupted

KEY: Final = "TIDEGATETESTKEY"
SECRET: Final = "tidegate-test-secret"
REGION: Final = "us-east-1"
START_TIMEOUT_S: Final = 60.0
ANSWER_TIMEOUT_S: Final = 1.0


class S3Server(ServerProcess):
    """One server process and its folder of buckets; it keeps port and objects over every stop, kill and start."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        super().__init__("the S3-compatible server", folder / "server.log")
        self.folder = folder
        self.port = port or free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.key = KEY
        self.secret = SECRET

    @property
    def environment(self) -> dict[str, str]:
        """The standard variables that lead a client here."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name: str) -> str:
        """Make the bucket if it is missing; returns its name."""
        (self.folder / "buckets" / name).mkdir(parents=True, exist_ok=True)
        return name

    def start(self) -> None:
        """Start the server and wait until it answers."""
        buckets = self.folder / "buckets"
        buckets.mkdir(parents=True, exist_ok=True)
        program = versitygw()
        if program is not None:
            # Without --disableotmp a killed overwrite can leave a visible temporary key.
            options = ["--port", f"127.0.0.1:{self.port}", "--region", REGION, "--quiet", "posix", "--disableotmp"]
            command = [str(program), *options, str(buckets)]
        else:
            command = [java(), "-Xmx256m", "-jar", str(s3proxy_jar()), "--properties", str(self._s3proxy(buckets))]
        secrets = {"ROOT_ACCESS_KEY": self.key, "ROOT_SECRET_KEY": self.secret}
        self.launch(command, self._answers, START_TIMEOUT_S, secrets)

    def restart(self) -> None:
        """Stop in order and start again: same port, same objects."""
        self.stop()
        self.start()

    def _answers(self) -> bool:
        if not accepts(self.port):
            return False
        try:
            urllib.request.urlopen(self.endpoint, timeout=ANSWER_TIMEOUT_S).close()
        except urllib.error.HTTPError:
            return True  # it refuses anonymous visitors, so it is up
        except OSError:
            return False
        return True

    def _s3proxy(self, buckets: Path) -> Path:
        settings = self.folder / "s3proxy.properties"
        settings.write_text(
            f"s3proxy.endpoint={self.endpoint}\ns3proxy.authorization=aws-v2-or-v4\n"
            f"s3proxy.identity={self.key}\ns3proxy.credential={self.secret}\n"
            f"jclouds.provider=filesystem-nio2\njclouds.filesystem.basedir={buckets}\n"
        )
        return settings


def main() -> None:
    """Run a server by hand until it is interrupted."""
    options = argparse.ArgumentParser(description="Run a real S3-compatible server on loopback until Ctrl-C.")
    options.add_argument("--port", type=int, default=9000)
    options.add_argument("--folder", type=Path, required=True, help="the folder of buckets; kept")
    options.add_argument("--bucket", default="tidegate", help="a bucket to make")
    given = options.parse_args()
    server = S3Server(given.folder.resolve(), port=given.port)
    server.make_bucket(given.bucket)
    server.start()
    variables = "".join(f"export {name}={value}\n" for name, value in server.environment.items())
    serve_until_interrupted(server, f"{variables}# S3 answers at {server.endpoint}; Ctrl-C stops it")


if __name__ == "__main__":
    main()
