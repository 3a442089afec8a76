"""The checkpoint cycle decides epochs one after the other, and never gives an epoch's number away."""

from __future__ import annotations

from tidegate.engine.protocol.checkpoint import (
    Abandon,
    Acknowledged,
    Announce,
    Checkpoints,
    Decide,
    DecisionLost,
    DecisionUnknown,
    DecisionWon,
    Due,
    GiveUp,
    Phase,
    ResolveDue,
    ResolveLater,
    SendBarriers,
    StandDown,
    TryFailed,
)
from tidegate.engine.protocol.manifest import Kind


def cycle(tolerated: int = 2) -> Checkpoints:
    """Two workers, next epoch 5."""
    return Checkpoints(5, frozenset({0, 1}), tolerated)


def test_a_manifest_is_written_only_when_all_workers_have_acknowledged() -> None:
    checkpoints = cycle()
    assert checkpoints.on(Due()) == [SendBarriers(5, 1, Kind.PERIODIC)]
    assert checkpoints.on(Acknowledged(0, 5, 1)) == []
    assert checkpoints.on(Acknowledged(1, 5, 1)) == [Decide(5, 1, Kind.PERIODIC)]
    assert checkpoints.on(DecisionWon()) == [Announce(5, 1, Kind.PERIODIC)]
    assert checkpoints.on(Due()) == [SendBarriers(6, 1, Kind.PERIODIC)]


def test_a_failed_try_keeps_its_epoch_and_takes_a_new_try_number() -> None:
    checkpoints = cycle()
    checkpoints.on(Due())
    assert checkpoints.on(TryFailed(5, 1, "disk full")) == [Abandon(5, 1, "disk full")]
    assert checkpoints.on(Due()) == [SendBarriers(5, 2, Kind.PERIODIC)]


def test_acknowledgements_of_an_abandoned_try_count_for_nothing() -> None:
    checkpoints = cycle()
    checkpoints.on(Due())
    checkpoints.on(Acknowledged(0, 5, 1))
    checkpoints.on(TryFailed(5, 1, "slow"))
    checkpoints.on(Due())
    assert checkpoints.on(Acknowledged(0, 5, 1)) == []
    assert checkpoints.on(Acknowledged(1, 5, 2)) == []
    assert checkpoints.on(Acknowledged(0, 5, 2)) == [Decide(5, 2, Kind.PERIODIC)]


def test_an_unknown_decision_is_resolved_before_anything_else_happens() -> None:
    checkpoints = cycle()
    checkpoints.on(Due())
    checkpoints.on(Acknowledged(0, 5, 1))
    checkpoints.on(Acknowledged(1, 5, 1))
    assert checkpoints.on(DecisionUnknown("timed out")) == [ResolveLater()]
    assert checkpoints.phase is Phase.UNRESOLVED
    assert checkpoints.on(ResolveDue()) == [Decide(5, 1, Kind.PERIODIC)]
    assert checkpoints.on(DecisionWon()) == [Announce(5, 1, Kind.PERIODIC)]


def test_losing_the_race_for_a_name_ends_the_attempt() -> None:
    checkpoints = cycle()
    checkpoints.on(Due())
    checkpoints.on(Acknowledged(0, 5, 1))
    checkpoints.on(Acknowledged(1, 5, 1))
    assert checkpoints.on(DecisionLost()) == [StandDown(5)]
    assert checkpoints.phase is Phase.ENDED


def test_too_many_failures_in_a_row_end_the_attempt_and_a_success_starts_the_count_again() -> None:
    checkpoints = cycle(tolerated=1)
    checkpoints.on(Due())
    checkpoints.on(TryFailed(5, 1, "a"))
    checkpoints.on(Due())
    checkpoints.on(Acknowledged(0, 5, 2))
    checkpoints.on(Acknowledged(1, 5, 2))
    checkpoints.on(DecisionWon())
    checkpoints.on(Due())
    assert isinstance(checkpoints.on(TryFailed(6, 1, "b"))[0], Abandon)
    checkpoints.on(Due())
    assert isinstance(checkpoints.on(TryFailed(6, 2, "c"))[0], GiveUp)
