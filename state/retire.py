"""Retires checkpoints: reads what the plan needs, asks who is the newest attempt, and deletes in safe order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..engine.errors import CorruptError, JobInvalidError, StoreMissingError
from ..engine.failpoints import failpoint
from ..engine.ports.log import CheckpointLog
from ..engine.protocol.manifest import Manifest
from .log import manifest_name
from .manifests import files_of
from .names import DATA_FOLDERS
from .retention import Known, Plan, candidates, plan_retirement, refusal, window
from .savepoints import read_savepoint, savepoint_names

READS_MAX: Final = 200
"""How many manifests one call may read besides the window's; the rest waits for the next call."""
SWEEP_EVERY: Final = 64
"""After how many calls all files are listed again, to find what dead attempts and failed tries left behind."""

_UNREADABLE: Final = (CorruptError, JobInvalidError, StoreMissingError)


@dataclass(frozen=True)
class Retired:
    """What one call did; `reason` tells why it deleted nothing although it was asked to."""

    epochs: tuple[int, ...] = ()
    files: int = 0
    reason: str = ""


class Retirement:
    """Retires checkpoints of one job for one attempt. Used by one thread; calls may be killed anywhere and repeated."""

    def __init__(self, log: CheckpointLog, attempt: int, retain: int) -> None:
        self._log = log
        self._attempt = attempt
        self._retain = retain
        self._known: dict[int, Known] = {}
        self._cleared: set[int] = set()
        self._unreadable: set[int] = set()
        self._savepoints: dict[str, frozenset[str]] = {}
        self._until_sweep = 0

    def remember(self, manifest: Manifest) -> None:
        """Spare the reading of a manifest that this attempt has decided or read."""
        self._known[manifest.epoch] = _known(manifest)

    def retire(self) -> Retired:
        """Delete what the rules allow; the first call, one in `SWEEP_EVERY` and one after a failure sweep orphans too.

        Raises `StoreUnavailableError`; what was not deleted then is found by a later call.
        """
        epochs = self._log.epochs()
        if not epochs:
            return Retired()
        left, self._until_sweep = self._until_sweep, 0
        try:
            self._learn(list(epochs))
            saved = self._savepoint_files()
        except _UNREADABLE as error:
            return Retired(reason=f"a kept checkpoint cannot be read, so nothing was deleted: {error.message}")
        listed = [name for folder in DATA_FOLDERS for name in self._log.store.list(folder)] if not left else []
        fresh = {epoch: k for epoch, k in self._known.items() if epoch not in self._cleared}
        plan = plan_retirement(
            epochs=epochs, retain=self._retain, known=self._with_bare(fresh), savepoint_files=saved, listed_files=listed
        )
        reason = self._delete(plan, epochs[-1])
        if reason:
            return Retired(reason=reason)
        self._until_sweep = left - 1 if left else SWEEP_EVERY - 1
        self._forget(plan, list(epochs))
        return Retired(plan.epochs, len(plan.files))

    def _delete(self, plan: Plan, newest: int) -> str:
        """Delete manifests, then files; the newest attempt is looked up right before each, not when planning began."""
        steps = [[manifest_name(epoch) for epoch in plan.epochs], list(plan.files)]
        for names in filter(None, steps):
            reason = refusal(self._attempt, self._log.attempts(), self._known[newest].attempt)
            if reason:
                return reason
            self._log.store.delete(names)
            failpoint("coordinator.mid-retire")
        return ""

    def _learn(self, epochs: list[int]) -> None:
        """Read the window, then candidates and their neighbours, newest first, up to a bound; a damaged one stays."""
        for epoch in window(epochs, self._retain):
            self._read(epoch)
        position = {epoch: i for i, epoch in enumerate(epochs)}
        around = [epochs[position[c] - 1 : position[c] + 2] for c in candidates(epochs, self._retain)]
        wanted = [epoch for three in reversed(around) for epoch in reversed(three)]
        skipped = self._known.keys() | self._unreadable
        for epoch in [e for e in dict.fromkeys(wanted) if e not in skipped][:READS_MAX]:
            try:
                self._read(epoch)
            except _UNREADABLE:
                self._unreadable.add(epoch)

    def _read(self, epoch: int) -> None:
        if epoch not in self._known:
            self._known[epoch] = _known(self._log.read(epoch))

    def _savepoint_files(self) -> frozenset[str]:
        names = savepoint_names(self._log)
        for name in names:
            if name not in self._savepoints:
                self._savepoints[name] = _known(read_savepoint(self._log, name)).files
        return frozenset().union(*(self._savepoints[name] for name in names))

    def _with_bare(self, fresh: dict[int, Known]) -> dict[int, Known]:
        """Manifests that stay without their files: their files were deleted already, their attempt still counts."""
        return {epoch: fresh.get(epoch, Known(known.attempt, frozenset())) for epoch, known in self._known.items()}

    def _forget(self, plan: Plan, epochs: list[int]) -> None:
        gone = set(plan.epochs)
        self._cleared.update(set(candidates(epochs, self._retain)) & self._known.keys())
        left = set(epochs) - gone
        self._known = {epoch: known for epoch, known in self._known.items() if epoch in left}
        self._cleared &= left


def _known(manifest: Manifest) -> Known:
    return Known(manifest.attempt, frozenset(file.name for file in files_of(manifest)))
