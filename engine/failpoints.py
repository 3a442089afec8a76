"""Named failpoints: places in the protocol where a test can have this process killed as `kill -9` would.

A failpoint is armed by a file of its name in the folder that `TIDEGATE_FAILPOINTS` points to. The process that removes
the file dies, so each arming kills exactly once, whichever process comes first. A number in the file delays it: the
process that reaches the point decrements it.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

VARIABLE: Final = "TIDEGATE_FAILPOINTS"
NAMES: Final = (
    "coordinator.attempt-claimed",
    "coordinator.identity-written",
    "coordinator.workers-started",
    "coordinator.fenced-before-relist",
    "coordinator.before-commit-pending",
    "coordinator.before-run",
    "coordinator.before-barriers",
    "coordinator.all-acknowledged",
    "coordinator.manifest-written",
    "coordinator.before-announce",
    "coordinator.after-announce",
    "coordinator.committed",
    "coordinator.before-retire",
    "coordinator.mid-retire",
    "coordinator.before-closing-manifest",
    "worker.set-up",
    "worker.restored",
    "worker.fenced",
    "worker.ledger-read",
    "worker.pending-received",
    "worker.running",
    "worker.barrier-received",
    "worker.mid-alignment",
    "worker.aligned",
    "worker.snapshot-taken",
    "worker.mid-upload",
    "worker.uploaded",
    "worker.acknowledged",
    "worker.decided",
    "worker.before-commit",
    "worker.after-commit",
    "worker.commit-reported",
)
_folder = os.environ.get(VARIABLE)


def failpoint(name: str) -> None:
    """Die here if a test has armed this point; costs one comparison otherwise."""
    if _folder is not None:
        _reach(Path(_folder) / name)


def _reach(armed: Path) -> None:
    try:
        text = armed.read_text().strip()
    except FileNotFoundError:
        return
    left = int(text or 0)
    if left > 0:
        armed.write_text(str(left - 1))
        return
    try:
        armed.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
