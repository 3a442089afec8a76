"""What a running job tells about itself, for the live line and the logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

COUNTED: Final = ("rows_in", "rows_out", "late", "skipped")
"""Figures that workers count and manifests keep, as totals of the job."""


@dataclass
class Status:
    """Figures of one run; counts since the run began, times in ms, rates per second."""

    job: str
    attempt: int = 0
    phase: str = "starting"
    epoch: int = 0
    committed: int = 0
    rows_in: int = 0
    rows_out: int = 0
    rows_per_s: float = 0.0
    late: int = 0
    skipped: int = 0
    watermark: int | None = None
    backlog_bytes: int = 0
    state_rows: int = 0
    state_bytes: int = 0
    caught_up: bool = False
    last_checkpoint_ms: float | None = None
    last_checkpoint_bytes: int = 0
    failed_checkpoints: int = 0
    restarts: int = 0
    last_failure: str = ""
    before: Mapping[str, int] | None = None
    """The job's totals when this run began; None before they are known."""

    def count(self, totals: Mapping[str, int]) -> None:
        """Take over the job's totals, less those from before this run."""
        before = self.before or {}
        for name in COUNTED:
            setattr(self, name, totals.get(name, 0) - before.get(name, 0))


Reporter = Callable[[Status], None]
"""Called by the coordinator about twice a second and at every change of phase."""
