"""Downloads of what the test servers are made of, once, into the cache folder.

    python -m tests.services.downloads

Kafka's jars come through Maven. The S3-compatible server is versitygw, built by Go; without Go it is s3proxy, again
through Maven. Both tools follow the mirrors and proxies that the machine's own settings name. A file lock lets several
processes ask at once; what has been downloaded completely is never asked for again.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .processes import ServiceError

# No TIDEGATE_ name: the product takes those for options and refuses unknown ones.
CACHE_VARIABLE: Final = "TEST_SERVICES_CACHE"
POM: Final = Path(__file__).parent / "pom.xml"
VERSITYGW: Final = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
S3PROXY: Final = "org.gaul:s3proxy:4.1.0:jar:jar-with-dependencies"
S3PROXY_JAR: Final = "s3proxy-4.1.0-jar-with-dependencies.jar"
DOWNLOAD_TIMEOUT_S: Final = 900.0


def cache_folder() -> Path:
    """Where downloads are kept: `.cache` beside `tests`, or what the environment variable says."""
    given = os.environ.get(CACHE_VARIABLE)
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / ".cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def kafka_class_path() -> str:
    """The Java class path of a broker."""
    lib = cache_folder() / "kafka-4.3.1"
    with _once(lib) as missing:
        if missing:
            unfinished = _beside(lib, ".part")
            shutil.rmtree(unfinished, ignore_errors=True)
            copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={unfinished}"]
            _run([_tool("mvn", "Maven"), "-q", "-B", "-f", str(POM), *copy])
            unfinished.rename(lib)
    return f"{lib}/*"


def java() -> str:
    """The Java program."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home) / "bin" / "java") if home else _tool("java", "Java 17")


def versitygw() -> Path | None:
    """The program versitygw, or None where there is no Go to build it."""
    folder = cache_folder() / "versitygw-1.8.0"
    if not folder.exists() and shutil.which("go") is None:
        return None
    with _once(folder) as missing:
        if missing:
            unfinished = _beside(folder, ".part")
            _run(["go", "install", VERSITYGW], GOBIN=str(unfinished))
            unfinished.rename(folder)
    return folder / "versitygw"


def s3proxy_jar() -> Path:
    """The jar of s3proxy, for machines without Go."""
    folder = cache_folder() / "s3proxy-4.1.0"
    with _once(folder) as missing:
        if missing:
            unfinished = _beside(folder, ".part")
            copy = ["dependency:copy", f"-Dartifact={S3PROXY}", f"-DoutputDirectory={unfinished}"]
            _run([_tool("mvn", "Maven"), "-q", "-B", *copy])
            unfinished.rename(folder)
    return folder / S3PROXY_JAR


@contextmanager
def _once(place: Path) -> Iterator[bool]:
    """Hold the lock of `place`; yields whether it is missing. Whole folders appear by one rename."""
    if place.exists():
        yield False
        return
    with _beside(place, ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not place.exists()


def _beside(place: Path, ending: str) -> Path:
    return place.with_name(place.name + ending)


def _tool(name: str, what: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ServiceError(f"`{name}` is not on the PATH; the test servers need {what}")
    return found


def _run(command: list[str], **environment: str) -> None:
    finished = subprocess.run(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DOWNLOAD_TIMEOUT_S,
        check=False,
    )
    if finished.returncode:
        story = (finished.stdout + finished.stderr)[-3000:]
        raise ServiceError(f"`{' '.join(command)}` failed with exit code {finished.returncode}:\n{story}")


def main() -> None:
    """Download everything and say where it is."""
    sys.stdout.write(f"Kafka: {kafka_class_path()}\nS3: {versitygw() or s3proxy_jar()}\n")


if __name__ == "__main__":
    main()
