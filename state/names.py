"""Names of objects below a job's folder: what they may look like, and what a data file's name says.

A name is one or more segments joined by `/`. No segment is empty, `.` or `..`, and `~` never occurs, so that stores can
keep files of their own (`tmp~`, `lock~`) next to objects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ..engine.errors import CorruptError

NAME_LENGTH_MAX: Final = 512
DATA_FOLDERS: Final = ("state/", "outbox/")
"""Folders of files that manifests name and retirement deletes."""

_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,128}", re.ASCII)
_DATA = re.compile(
    r"(?:state|outbox)/[^/]+/(\d{1,18})-(\d{1,18})-(\d{1,18})-(\d{1,9})(?:-(\d{1,9}))?\.[a-z0-9]+", re.ASCII
)


@dataclass(frozen=True)
class DataName:
    """What the name of a state file or an outbox says: `<epoch>-<attempt>-<try>-<subtask>[-<n>].<format>`."""

    epoch: int
    attempt: int
    tries: int
    subtask: int
    n: int


def check_name(name: str) -> str:
    """Return `name` if it stays below the job's folder, else raise `CorruptError`."""
    segments = name.split("/")
    if len(name) > NAME_LENGTH_MAX or any(not _SEGMENT.fullmatch(s) or s in {".", ".."} for s in segments):
        raise CorruptError(
            f"{name[:NAME_LENGTH_MAX]!r} is not the name of an object below a job's folder",
            hint="names that manifests hold are written by Tidegate alone; somebody changed this one",
        )
    return name


def check_prefix(prefix: str) -> str:
    """Return `prefix` if it is empty or a folder ending in `/`, else raise `CorruptError`."""
    if prefix and not prefix.endswith("/"):
        raise CorruptError(f"{prefix!r} is not a folder of a job", hint="end the prefix with /")
    if prefix:
        check_name(prefix[:-1])
    return prefix


def parse_data_name(name: str) -> DataName | None:
    """Read what a data file's name says; None for any other name."""
    found = _DATA.fullmatch(name)
    if found is None:
        return None
    epoch, attempt, tries, subtask, n = (int(group or 0) for group in found.groups())
    return DataName(epoch, attempt, tries, subtask, n)
