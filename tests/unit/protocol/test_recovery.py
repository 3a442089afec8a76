"""Recovery takes its steps in the only safe order."""

from __future__ import annotations

import pytest
from tidegate.engine.errors import ProtocolError
from tidegate.engine.protocol.recovery import (
    Begin,
    ClaimAttempt,
    Claimed,
    ClaimLost,
    CommitPending,
    IdentityWritten,
    ListAgain,
    NewestRead,
    PendingCommitted,
    ReadNewest,
    Recovery,
    Relisted,
    Run,
    StandDown,
    StartOver,
    StartWorkers,
    WorkerFenced,
    WriteIdentity,
)


def fenced() -> Recovery:
    """Two workers have fenced and read, from manifest 9 under attempt 4."""
    recovery = Recovery(2)
    recovery.on(Begin(3))
    recovery.on(Claimed())
    recovery.on(NewestRead(9))
    recovery.on(WorkerFenced(0))
    recovery.on(WorkerFenced(1))
    return recovery


def test_the_attempt_number_is_taken_before_anything_is_read() -> None:
    recovery = Recovery(1)
    assert recovery.on(Begin(6)) == [ClaimAttempt(7)]
    assert recovery.on(ClaimLost()) == [ClaimAttempt(8)]
    assert recovery.on(Claimed()) == [ReadNewest()]


def test_identity_is_read_back_whoever_wrote_it() -> None:
    recovery = Recovery(1)
    recovery.on(Begin(0))
    recovery.on(Claimed())
    assert recovery.on(NewestRead(None)) == [WriteIdentity()]
    assert recovery.on(IdentityWritten(ours=False)) == [ReadNewest()]
    assert recovery.on(NewestRead(0)) == [StartWorkers(0)]


def test_the_newest_manifest_is_listed_again_after_every_worker_has_fenced_and_read() -> None:
    recovery = Recovery(2)
    recovery.on(Begin(3))
    recovery.on(Claimed())
    recovery.on(NewestRead(9))
    assert recovery.on(WorkerFenced(1)) == []
    assert recovery.on(WorkerFenced(0)) == [ListAgain()]


def test_a_newest_manifest_that_moved_means_starting_over() -> None:
    assert fenced().on(Relisted(10, 4)) == [StartOver(10)]


def test_a_newer_attempt_means_standing_down() -> None:
    assert fenced().on(Relisted(9, 5)) == [StandDown(5)]


def test_sources_read_only_after_pending_output_is_committed() -> None:
    recovery = fenced()
    assert recovery.on(Relisted(9, 4)) == [CommitPending()]
    assert recovery.on(PendingCommitted()) == [Run()]


def test_nothing_is_committed_before_the_second_listing() -> None:
    recovery = Recovery(1)
    recovery.on(Begin(0))
    recovery.on(Claimed())
    recovery.on(NewestRead(3))
    with pytest.raises(ProtocolError):
        recovery.on(PendingCommitted())
