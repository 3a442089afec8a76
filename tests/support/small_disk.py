"""A small disk: a tmpfs of a few megabytes in a mount namespace of its own, for programs that run on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

START_TIMEOUT_S: Final = 10.0
FILLER: Final = "filler"
BLOCK: Final = bytes(64 * 1024)


class SmallDisk:
    """A tmpfs at `path` that only programs started with `prefix` see; `inside` is the same folder for everybody."""

    def __init__(self, path: Path, megabytes: int) -> None:
        path.mkdir()
        self.path = path
        # Root needs no user namespace; everybody else needs one to be allowed to mount.
        self._user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
        script = f'mount -t tmpfs -o size={megabytes}m tmpfs "$0" && echo mounted && exec sleep infinity'
        self._holder = subprocess.Popen(
            ["unshare", "--mount", *self._user, "sh", "-c", script, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline().strip() != "mounted":
            raise RuntimeError("no tmpfs could be mounted: neither as root nor in a user namespace")

    @property
    def prefix(self) -> tuple[str, ...]:
        """Put before a command so that it sees the disk."""
        user = ("--user", "--preserve-credentials") if self._user else ()
        return ("nsenter", "--target", str(self._holder.pid), "--mount", *user)

    @property
    def inside(self) -> Path:
        """The folder on the disk, seen from outside."""
        return Path(f"/proc/{self._holder.pid}/root{self.path}")

    def fill(self) -> None:
        """Write until nothing more fits."""
        with (self.inside / FILLER).open("ab", buffering=0) as file:
            try:
                while file.write(BLOCK) == len(BLOCK):
                    pass
            except OSError:
                return

    def free(self) -> None:
        """Take away what `fill` wrote."""
        (self.inside / FILLER).unlink()

    def close(self) -> None:
        """End the namespace; the disk vanishes with the last program on it."""
        self._holder.kill()
        self._holder.wait(START_TIMEOUT_S)
