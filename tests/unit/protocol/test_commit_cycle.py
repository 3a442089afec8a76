"""The commit cycle keeps the rules on fencing and the ledger."""

from __future__ import annotations

import pytest
from tidegate.engine.errors import ProtocolError
from tidegate.engine.ports.sink import CommitOutcome, LedgerEntry
from tidegate.engine.protocol.commit import (
    Commit,
    CommitCycle,
    CommitTried,
    DecidedEpoch,
    Done,
    FencedOff,
    FenceMade,
    LedgerRead,
    MakeFence,
    Open,
    Phase,
    ReadLedger,
    RetryDue,
    RetryLater,
    Stop,
    Unavailable,
)


def ready(attempt: int = 3, known: int = 0, decided: int = 7, entry: LedgerEntry | None = None) -> CommitCycle:
    """A cycle that has fenced and read once."""
    cycle = CommitCycle(attempt, known, decided, ())
    cycle.on(Open())
    cycle.on(FenceMade())
    cycle.on(LedgerRead(entry))
    return cycle


def test_nothing_is_committed_before_the_ledger_was_read_after_the_fence() -> None:
    cycle = CommitCycle(3, 0, 7, (7,))
    assert cycle.on(Open()) == [MakeFence()]
    assert cycle.on(FenceMade()) == [ReadLedger()]
    assert cycle.on(LedgerRead(None)) == [Commit(7)]


def test_an_epoch_that_the_ledger_knows_is_not_committed_again() -> None:
    cycle = CommitCycle(3, 0, 7, (6, 7))
    cycle.on(Open())
    cycle.on(FenceMade())
    assert cycle.on(LedgerRead(LedgerEntry(2, 6))) == [Done(6), Commit(7)]


def test_output_handed_over_late_is_dropped_when_the_ledger_already_knows_it() -> None:
    cycle = ready(entry=LedgerEntry(2, 7))
    assert cycle.on(DecidedEpoch(7)) == []
    assert cycle.phase is Phase.READY


def test_epochs_of_one_subtask_are_committed_in_order() -> None:
    cycle = ready()
    assert cycle.on(DecidedEpoch(8)) == [Commit(8)]
    assert cycle.on(DecidedEpoch(9)) == []
    assert cycle.on(CommitTried(CommitOutcome.COMMITTED)) == [Done(8), Commit(9)]


def test_after_an_unknown_commit_a_new_fence_and_a_new_read_decide() -> None:
    cycle = ready()
    cycle.on(DecidedEpoch(8))
    assert cycle.on(CommitTried(CommitOutcome.UNKNOWN)) == [MakeFence()]
    assert cycle.on(FenceMade()) == [ReadLedger()]
    assert cycle.on(LedgerRead(LedgerEntry(3, 8))) == [Done(8)]
    assert cycle.phase is Phase.READY


def test_after_an_unknown_commit_that_did_not_happen_the_epoch_is_committed_again() -> None:
    cycle = ready()
    cycle.on(DecidedEpoch(8))
    cycle.on(CommitTried(CommitOutcome.UNKNOWN))
    cycle.on(FenceMade())
    assert cycle.on(LedgerRead(LedgerEntry(3, 7))) == [Done(7), Commit(8)]


def test_a_failed_commit_waits_and_begins_with_a_new_fence() -> None:
    cycle = ready()
    cycle.on(DecidedEpoch(8))
    assert isinstance(cycle.on(CommitTried(CommitOutcome.FAILED))[0], RetryLater)
    assert cycle.on(RetryDue()) == [MakeFence()]


def test_an_entry_of_a_newer_attempt_stops_this_one() -> None:
    cycle = CommitCycle(3, 0, 7, (7,))
    cycle.on(Open())
    cycle.on(FenceMade())
    assert cycle.on(LedgerRead(LedgerEntry(4, 7))) == [Stop(newer=4)]
    assert cycle.phase is Phase.STOPPED


def test_an_epoch_that_was_never_seen_decided_stops_this_attempt() -> None:
    cycle = CommitCycle(3, 0, 7, (7,))
    cycle.on(Open())
    cycle.on(FenceMade())
    assert cycle.on(LedgerRead(LedgerEntry(2, 8))) == [Stop(ahead=8)]


def test_a_ledger_that_knows_less_than_the_manifests_stops_the_job() -> None:
    cycle = CommitCycle(3, 5, 7, (7,))
    cycle.on(Open())
    cycle.on(FenceMade())
    [stop] = cycle.on(LedgerRead(None))
    assert isinstance(stop, Stop)
    assert "5" in stop.behind


def test_being_fenced_while_committing_stops_the_cycle() -> None:
    cycle = ready()
    cycle.on(DecidedEpoch(8))
    assert cycle.on(FencedOff()) == [Stop()]


def test_an_outage_keeps_the_queue_and_its_order() -> None:
    cycle = ready()
    cycle.on(DecidedEpoch(8))
    cycle.on(Unavailable("broker away"))
    cycle.on(DecidedEpoch(9))
    assert cycle.queue == (8, 9)
    cycle.on(RetryDue())
    cycle.on(FenceMade())
    assert cycle.on(LedgerRead(None)) == [Commit(8)]


def test_an_event_that_the_phase_does_not_know_changes_nothing() -> None:
    cycle = CommitCycle(3, 0, 7, (7,))
    with pytest.raises(ProtocolError):
        cycle.on(CommitTried(CommitOutcome.COMMITTED))
    assert cycle.phase is Phase.UNFENCED
    assert cycle.queue == (7,)
