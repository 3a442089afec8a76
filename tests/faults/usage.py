"""Memory and descriptors of a job's processes, and whether they grow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

SAMPLES_MIN: Final = 8


@dataclass(frozen=True)
class Usage:
    """Resident bytes and open descriptors: of the coordinator, and the most of any worker."""

    coordinator_bytes: int
    coordinator_descriptors: int
    worker_bytes: int
    worker_descriptors: int


def usage_of(coordinator: int, workers: Sequence[int]) -> Usage:
    """Look at the processes; one that is gone counts as nothing."""
    sizes, descriptors = zip(*[_look(pid) for pid in [coordinator, *workers]], strict=True)
    return Usage(sizes[0], descriptors[0], max(sizes[1:], default=0), max(descriptors[1:], default=0))


def _look(pid: int) -> tuple[int, int]:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE"), len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except (OSError, IndexError):
        return 0, 0


def growth(usage: Sequence[Usage]) -> dict[str, tuple[float, float]]:
    """Return the medians of the second and of the last quarter of the samples, by figure."""
    if len(usage) < SAMPLES_MIN:
        return {}
    quarter = len(usage) // 4
    early, late = usage[quarter : 2 * quarter], usage[-quarter:]
    return {
        name: (median(getattr(sample, name) for sample in early), median(getattr(sample, name) for sample in late))
        for name in Usage.__dataclass_fields__
    }
