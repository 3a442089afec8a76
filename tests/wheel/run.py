"""Builds the wheel and runs the fast tests against it, in a clean environment and far from the sources.

The folder the tests run in has folders of its own called `state`, `engine` and `connectors`, as a user's may: the
package must neither import them nor be in their way.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
WORK: Final = ROOT / ".cache" / "wheel"
ENVIRONMENT: Final = WORK / "venv"
BIN: Final = ENVIRONMENT / "bin"
USER: Final = WORK / "user"
LOCK: Final = ROOT / "requirements.lock"
SUITES: Final = ("unit", "properties", "wheel")
PIP: Final = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps")


def main() -> None:
    """Build, install, run; the exit code is that of the first step that fails."""
    wheel = build()
    install(wheel)
    lay_out_user_folder()
    run([str(BIN / "pytest"), "-q", *(f"tests/{suite}" for suite in SUITES if (USER / "tests" / suite).is_dir())], USER)


def build() -> Path:
    """Build the wheel from a copy of what is tracked, so that nothing left over gets into it."""
    tree = WORK / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    dist = WORK / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    options = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(dist), str(tree)]
    run([sys.executable, "-m", "pip", "--disable-pip-version-check", *options], WORK)
    return next(dist.glob("*.whl"))


def install(wheel: Path) -> None:
    """Install the lock with its hashes, then the wheel; the index is off, so it must find all it asks for."""
    stamp = ENVIRONMENT / "lock"
    if not stamp.exists() or stamp.read_bytes() != LOCK.read_bytes():
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        run([str(BIN / "python"), *PIP, "--require-hashes", "-r", str(LOCK)], WORK)
        stamp.write_bytes(LOCK.read_bytes())
    run([str(BIN / "python"), *PIP, "--force-reinstall", str(wheel)], WORK)
    offline = [option for option in PIP if option != "--no-deps"]
    run([str(BIN / "python"), *offline, "--no-index", f"tidegate[s3] @ {wheel.as_uri()}"], WORK)


def lay_out_user_folder() -> None:
    """Make the folder the tests run in: the tests, and modules whose names are those of folders of the package."""
    shutil.rmtree(USER, ignore_errors=True)
    shutil.copytree(ROOT / "tests", USER / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("examples", "data"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, USER / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", USER)
    for name in ("state", "engine", "connectors"):
        (USER / name).mkdir()
        (USER / name / "__init__.py").write_text(f'"""A user\'s own `{name}`."""\n\nOWNER = "user"\n')


def run(command: list[str], folder: Path) -> None:
    """Run one step in `folder`; end this program with its exit code if it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["TEST_SERVICES_CACHE"] = str(ROOT / ".cache")
    status = subprocess.run(command, cwd=folder, env=environment, check=False).returncode
    if status:
        sys.exit(status)


if __name__ == "__main__":
    WORK.mkdir(parents=True, exist_ok=True)
    main()
