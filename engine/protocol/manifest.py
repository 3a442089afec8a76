"""The manifest as pure types: the immutable record that *is* a checkpoint.

Units: times are milliseconds since the Unix epoch and only informative, sizes are bytes. Names are relative to the
job's folder in the checkpoint store.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

FORMAT = 1
"""Version of the manifest's JSON schema."""


class Kind(Enum):
    """Why a manifest was written. START is manifest 0; STOPPED and FINISHED say that nothing is pending."""

    START = "start"
    PERIODIC = "periodic"
    FINAL = "final"
    RESTORE = "restore"
    STOPPED = "stopped"
    FINISHED = "finished"


@dataclass(frozen=True)
class FileRef:
    """A file that a manifest names: verified by size and SHA-256 (hex) before it is parsed."""

    name: str
    size: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class StateFile:
    """A run of keyed state: rows of key groups `groups_from` (inclusive) to `groups_to` (exclusive)."""

    uid: str
    file: FileRef
    groups_from: int
    groups_to: int


@dataclass(frozen=True)
class Committable:
    """One sink subtask's output of one epoch: outbox segments in order. `target` is where it was decided to go."""

    sink_uid: str
    subtask: int
    epoch: int
    segments: tuple[FileRef, ...]
    target: dict[str, object] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Records in all segments."""
        return sum(segment.rows for segment in self.segments)


@dataclass(frozen=True)
class SplitPosition:
    """Where a split stands: next position, bounded end, largest event time seen, whether it is finished."""

    source_uid: str
    split_id: str
    index: int
    position: object
    end: object | None = None
    max_time: int | None = None
    finished: bool = False


@dataclass(frozen=True)
class SinkSubtask:
    """A transactional id that is not retired, and the last epoch known to be committed under it (0 = none)."""

    sink_uid: str
    subtask: int
    committed: int = 0


@dataclass(frozen=True)
class Manifest:
    """One decided checkpoint. `writer` is unique per write, so that a lost answer is recognised by reading back.

    `committables` lists all output that was not known to be committed when this was written, also of earlier epochs,
    in epoch order per sink subtask. `sinks` lists every transactional id not yet retired, also of removed sinks and
    of smaller layouts. `watermarks` holds the watermark (ms) per exchange port uid, the largest over its subtasks.
    """

    job: str
    job_uid: str
    epoch: int
    attempt: int
    tries: int
    kind: Kind
    delivery: str
    writer: str
    parallelism: int
    key_groups: int
    created_ms: int
    splits: tuple[SplitPosition, ...] = ()
    states: tuple[StateFile, ...] = ()
    committables: tuple[Committable, ...] = ()
    sinks: tuple[SinkSubtask, ...] = ()
    targets: dict[str, dict[str, object]] = field(default_factory=dict)
    watermarks: dict[str, int] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    until_end: bool = False
    format: int = FORMAT
