"""Barrier alignment holds, passes once, and recognises stale barriers."""

from __future__ import annotations

from tidegate.engine.elements import Barrier
from tidegate.engine.protocol.alignment import Abandoned, Alignment, Arrived, Pass, Phase

FIRST, SECOND, NEXT = Barrier(1, 5, 1), Barrier(1, 5, 2), Barrier(1, 6, 1)


def test_an_input_that_delivered_the_barrier_is_held_until_all_have() -> None:
    port = Alignment(3)
    assert port.on(Arrived(0, FIRST)) == []
    assert port.on(Arrived(2, FIRST)) == []
    assert port.held == {0, 2}
    assert port.on(Arrived(1, FIRST)) == [Pass(FIRST)]
    assert port.held == frozenset()


def test_a_single_input_passes_at_once() -> None:
    assert Alignment(1).on(Arrived(0, FIRST)) == [Pass(FIRST)]


def test_a_barrier_of_an_abandoned_try_is_recognised_and_dropped() -> None:
    port = Alignment(2)
    port.on(Arrived(0, FIRST))
    port.on(Abandoned(FIRST))
    assert port.held == frozenset()
    assert port.on(Arrived(1, FIRST)) == []
    assert port.phase is Phase.OPEN
    port.on(Arrived(0, SECOND))
    assert port.on(Arrived(1, SECOND)) == [Pass(SECOND)]


def test_a_later_barrier_voids_the_one_being_aligned() -> None:
    port = Alignment(2)
    port.on(Arrived(0, FIRST))
    assert port.on(Arrived(1, SECOND)) == []
    assert port.held == {1}
    assert port.on(Arrived(0, SECOND)) == [Pass(SECOND)]


def test_an_abandoned_barrier_that_is_older_than_the_current_one_releases_nothing() -> None:
    port = Alignment(2)
    port.on(Arrived(0, SECOND))
    port.on(Abandoned(FIRST))
    assert port.held == {0}
    assert port.on(Arrived(1, SECOND)) == [Pass(SECOND)]


def test_a_barrier_passes_once_only() -> None:
    port = Alignment(2)
    port.on(Arrived(0, FIRST))
    port.on(Arrived(1, FIRST))
    assert port.on(Arrived(0, FIRST)) == []
    port.on(Arrived(0, NEXT))
    assert port.on(Arrived(1, NEXT)) == [Pass(NEXT)]
