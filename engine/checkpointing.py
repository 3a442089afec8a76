"""The shell around the checkpoint machine: barriers out, acknowledgements in, manifests written in the background."""

from __future__ import annotations

import logging
import time
from typing import Final

from . import assembly
from .context import Facts
from .errors import CheckpointFailedError, StoreDeniedError, TidegateError
from .failpoints import failpoint
from .messages import AbandonTry, Ack, Decided, SendBarrier
from .protocol import checkpoint as cp
from .protocol.manifest import Kind, Manifest

log = logging.getLogger(__name__)

RESOLVE_PAUSE_S: Final = 1.0
FIRST_INTERVAL_S: Final = 0.1


class Checkpointing:
    """Runs the checkpoints of an attempt that is running."""

    def __init__(self, facts: Facts) -> None:
        self._f = facts
        self._c = facts.context
        self._s = facts.context.settings
        self._machine = cp.Checkpoints(
            facts.newest.epoch + 1, frozenset(range(self._s.workers)), self._s.tolerate_failed_checkpoints
        )
        self._base = dict(facts.newest.counters)
        self._acks: dict[int, Ack] = {}
        self._writing: Manifest | None = None
        # The first checkpoints come early and, once there is something to read, grow apart to the interval asked for:
        # whoever starts a job, or waits for it to recover, wants to see output soon, and a small epoch commits soon.
        self._interval_s = min(self._s.checkpoint_interval_s, FIRST_INTERVAL_S)
        self._due_at = time.monotonic() + self._interval_s
        self._try_started = 0.0
        self._collected = 0.0
        self._resolve_at: float | None = None
        self.final_decided = False

    # Events.

    def tick(self, now: float) -> None:
        """Look at the clock: trigger, time out, ask again."""
        if self._resolve_at is not None and now >= self._resolve_at:
            self._resolve_at = None
            self._feed(cp.ResolveDue())
        if self._machine.phase is cp.Phase.IDLE and not self.final_decided:
            self._trigger(now)
        elif self._machine.phase is cp.Phase.COLLECTING and now - self._try_started > self._s.checkpoint_timeout_s:
            missing = sorted(self._machine.waiting)
            reason = f"no acknowledgement from workers {missing} within {self._s.checkpoint_timeout_s:g} s"
            self.failed(self._machine.epoch, self._machine.tries, reason)

    def _trigger(self, now: float) -> None:
        all_finished = len(self._f.finished) == self._s.workers and not self._f.sources.waiting
        ending = self._f.stop or all_finished
        # The last checkpoint need not wait for the interval, but a failed try of it waits like any other.
        if now >= self._due_at or (ending and self._machine.tries == 0):
            if ending:
                self._f.phase("stopping" if self._f.stop else "finishing")
            self._feed(cp.Due(Kind.FINAL if ending else Kind.PERIODIC))

    def acknowledged(self, worker: int, ack: Ack) -> None:
        """Take in a worker's acknowledgement; those of earlier tries count for nothing."""
        if (ack.epoch, ack.tries) == (self._machine.epoch, self._machine.tries):
            self._acks[worker] = ack
        self._feed(cp.Acknowledged(worker, ack.epoch, ack.tries))

    def failed(self, epoch: int, tries: int, reason: str) -> None:
        """Take in that a try failed."""
        log.warning("checkpoint %d try %d failed: %s", epoch, tries, reason)
        self._feed(cp.TryFailed(epoch, tries, reason))

    # Instructions.

    def _feed(self, event: object) -> None:
        if self._f.ended is not None:
            return
        for instruction in self._machine.on(event):
            self._obey(instruction)

    def _obey(self, instruction: cp.Instruction) -> None:
        match instruction:
            case cp.SendBarriers(epoch, tries, kind):
                self._send_barriers(epoch, tries, kind)
            case cp.Abandon(epoch, tries, reason):
                self._c.status.failed_checkpoints += 1
                self._f.catalog(lambda: self._c.catalog.failed(epoch, tries, reason))
                self._f.tell_all(AbandonTry(epoch, tries))
                pause = max(self._s.min_pause_s, self._s.checkpoint_interval_s)
                self._due_at = time.monotonic() + pause
            case cp.Decide(epoch, tries, kind):
                self._decide(epoch, tries, kind)
            case cp.ResolveLater():
                self._resolve_at = time.monotonic() + RESOLVE_PAUSE_S
            case cp.Announce(epoch, tries, kind):
                self._announce(epoch, tries, kind)
            case cp.GiveUp(reason):
                hint = "the job recovers from its last checkpoint; look at the checkpoint store"
                self._f.end("failed", CheckpointFailedError(reason, hint=hint))
            case cp.StandDown(epoch):
                self._stand_down(epoch)

    def _stand_down(self, epoch: int) -> None:
        newer = self._f.highest_attempt()
        log.warning("epoch %d was decided by somebody else", epoch)
        if newer > self._f.number:
            self._f.end("failed", self._f.fenced_by(newer))
        else:
            self._f.end("start-over")

    def _send_barriers(self, epoch: int, tries: int, kind: Kind) -> None:
        failpoint("coordinator.before-barriers")
        self._acks = {}
        self._try_started = time.monotonic()
        new = self._f.sources.hand_out()
        for worker in self._f.cluster.workers:
            mine = [s for s in new if assembly.owner(s.index, self._s.workers) == worker.index]
            if mine:
                self._f.finished.discard(worker.index)
            worker.send(SendBarrier(epoch, tries, mine, last=kind is Kind.FINAL and self._f.stop))

    def _decide(self, epoch: int, tries: int, kind: Kind) -> None:
        """Write the manifest in the background; while its outcome is unknown, exactly the same bytes again."""
        if self._writing is None:
            failpoint("coordinator.all-acknowledged")
            self._collected = time.monotonic()
            acks = [self._acks[index] for index in sorted(self._acks)]
            self._writing = assembly.next_manifest(
                self._f.newest, acks, self._f.sources.given, self._f.books,
                epoch=epoch, tries=tries, kind=kind, counters=self._counters(acks), **self._f.about(),
            )  # fmt: skip
        manifest = self._writing
        self._c.background.run("decide", lambda: write(self._f, manifest), self._written, self._unwritten)

    def _counters(self, acks: list[Ack]) -> dict[str, int]:
        counters = dict(self._base)
        for ack in acks:
            for name, value in ack.counters.items():
                counters[name] = counters.get(name, 0) + value
        return counters

    def _written(self, won: bool) -> None:
        self._feed(cp.DecisionWon() if won else cp.DecisionLost())

    def _unwritten(self, error: Exception) -> None:
        denied = isinstance(error, StoreDeniedError)
        if isinstance(error, TidegateError) and (error.retryable or denied):
            log.warning("whether checkpoint %d was written is unknown: %s", self._machine.epoch, error)
            self._feed(cp.DecisionUnknown(str(error)))
        elif isinstance(error, TidegateError):
            self._f.end("failed", error)
        else:
            raise error

    def _announce(self, epoch: int, tries: int, kind: Kind) -> None:
        failpoint("coordinator.before-announce")
        manifest = self._writing
        if manifest is None:
            raise AssertionError("an epoch is announced only after its manifest was written")
        self._writing = None
        self._f.manifest = manifest
        self._f.decided += 1
        self._f.books.add(c for c in manifest.committables if c.epoch == epoch)
        self._f.books.decided(epoch)
        self._f.tell_all(Decided(epoch, tries))
        failpoint("coordinator.after-announce")
        now = time.monotonic()
        if manifest.counters.get("rows_in", 0) > self._base.get("rows_in", 0):
            self._interval_s = min(self._s.checkpoint_interval_s, self._interval_s * 2)
        self._due_at = max(self._try_started + self._interval_s, now + self._s.min_pause_s)
        self.final_decided = kind is Kind.FINAL
        self._note(manifest, now)

    def _note(self, manifest: Manifest, now: float) -> None:
        durations = {"collect": (self._collected - self._try_started) * 1000, "decide": (now - self._collected) * 1000}
        for step in ("align", "upload"):
            durations[step] = max((ack.durations_ms.get(step, 0.0) for ack in self._acks.values()), default=0.0)
        status = self._c.status
        status.epoch = manifest.epoch
        status.last_checkpoint_ms = (now - self._try_started) * 1000
        status.last_checkpoint_bytes = assembly.bytes_written(manifest)
        log.debug("checkpoint %d decided in %.0f ms", manifest.epoch, status.last_checkpoint_ms)
        self._f.catalog(lambda: self._c.catalog.decided(manifest, durations, manifest.kind.value))


def write(facts: Facts, manifest: Manifest) -> bool:
    """Decide an epoch; True if it is ours. Raises `FencedError` when a newer attempt exists.

    Retirement rests on the look at the attempts before each write: an attempt that was replaced finishes at most the
    one that was under way, which is its last, so that the name which a slow attempt wants is never free again.
    """
    newest = facts.highest_attempt()
    if newest > facts.number:
        raise facts.fenced_by(newest)
    won = facts.context.log.decide(manifest)
    failpoint("coordinator.manifest-written")
    return won
