"""Manifests are assembled so that nothing pending is forgotten, and jobs that do not fit are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tidegate.engine.assembly import (
    Books,
    check_drained,
    check_key_groups,
    closing_manifest,
    first_positions,
    new_positions,
    next_manifest,
    owner,
    sink_ids,
)
from tidegate.engine.errors import JobInvalidError
from tidegate.engine.messages import Ack
from tidegate.engine.ports.source import Split
from tidegate.engine.protocol.manifest import Committable, FileRef, Kind, Manifest, SinkSubtask, SplitPosition

START = Manifest("job", "uid", 0, 1, 1, Kind.START, "exactly-once", "w", 2, 128, 0)


def output(epoch: int, subtask: int = 0, sink: str = "out") -> Committable:
    """One outbox."""
    return Committable(sink, subtask, epoch, (FileRef(f"outbox/{sink}/{epoch}", 1, "00", 3),))


def ack(*committables: Committable, splits: tuple[SplitPosition, ...] = ()) -> Ack:
    """What a worker acknowledges."""
    return Ack(1, 1, list(splits), [], list(committables), {"windows": 5}, {}, {})


def test_a_manifest_lists_all_output_that_is_not_known_to_be_committed() -> None:
    books = Books({("out", 0): 0, ("out", 1): 0}, frozenset({("out", 0), ("out", 1)}))
    books.add([output(1), output(1, 1)])
    books.done(("out", 1), 1)
    manifest = next_manifest(START, [ack(output(2)), ack(output(2, 1))], {}, books, epoch=2)
    assert [(c.subtask, c.epoch) for c in manifest.committables] == [(0, 1), (0, 2), (1, 2)]
    assert manifest.sinks == (SinkSubtask("out", 0, 0), SinkSubtask("out", 1, 1))


def test_an_id_of_an_older_layout_retires_only_after_an_epoch_without_it_is_fully_committed() -> None:
    books = Books({("out", 0): 4, ("out", 1): 4}, frozenset({("out", 0)}))
    books.add([output(5, 1)])
    books.decided(6)
    books.retire(6)
    assert ("out", 1) in books.committed, "its output is still pending"
    books.done(("out", 1), 5)
    books.decided(7)
    books.retire(6)
    assert ("out", 1) in books.committed, "epoch 7 is not fully committed yet"
    books.retire(7)
    assert ("out", 1) not in books.committed
    assert ("out", 0) in books.committed


def test_committed_through_is_held_back_by_the_oldest_pending_epoch() -> None:
    books = Books({}, frozenset())
    books.add([output(3), output(4, 1)])
    assert books.committed_through(4) == 2
    books.done(("out", 0), 3)
    assert books.committed_through(4) == 3
    books.done(("out", 1), 4)
    assert books.committed_through(4) == 4


def test_every_id_of_the_manifest_and_of_the_new_layout_is_fenced() -> None:
    manifest = replace(START, sinks=(SinkSubtask("out", 0, 7), SinkSubtask("out", 2, 6), SinkSubtask("gone", 0, 7)))
    found = [(s.sink_uid, s.subtask, s.committed) for s in sink_ids(manifest, ["out"], 2)]
    assert found == [("gone", 0, 7), ("out", 0, 7), ("out", 1, 0), ("out", 2, 6)]


def test_positions_given_at_a_barrier_are_in_that_manifest_even_if_nobody_read_them_yet() -> None:
    given = SplitPosition("in", "t:4", 4, {"offset": 0})
    manifest = next_manifest(START, [ack()], {("in", "t:4"): given}, Books({}, frozenset()), epoch=1)
    assert manifest.splits == (given,)
    read = replace(given, position={"offset": 9})
    manifest = next_manifest(START, [ack(splits=(read,))], {("in", "t:4"): given}, Books({}, frozenset()), epoch=1)
    assert manifest.splits == (read,)


def test_new_splits_begin_at_their_first_record_whatever_start_says() -> None:
    split = Split("t:1", 1, start={"offset": 50}, first={"offset": 0})
    known = first_positions("in", [Split("t:0", 0, start={"offset": 50}, first={"offset": 0})])
    assert known[0].position == {"offset": 50}
    assert new_positions("in", known, [split]) == [SplitPosition("in", "t:1", 1, {"offset": 0})]


def test_numbers_of_new_splits_are_never_used_twice() -> None:
    known = [SplitPosition("in", "t:0", 0, 0), SplitPosition("in", "u:0", 5, 0)]
    found = [Split(name, index, start=0, first=0) for index, name in enumerate(["t:0", "t:1", "u:0", "u:1"])]
    assert [(s.split_id, s.index) for s in new_positions("in", known, found)] == [("t:1", 6), ("u:1", 7)]


def test_the_closing_manifest_knows_that_nothing_is_pending() -> None:
    books = Books({("out", 0): 3}, frozenset({("out", 0)}))
    last = replace(START, epoch=3, committables=(output(3),))
    closed = closing_manifest(last, books, kind=Kind.STOPPED)
    assert (closed.epoch, closed.kind, closed.committables) == (4, Kind.STOPPED, ())
    assert closed.sinks == (SinkSubtask("out", 0, 3),)


def test_a_switch_to_at_least_once_is_refused_while_output_is_pending() -> None:
    manifest = replace(START, epoch=3, committables=(output(3),))
    check_drained(manifest, ["out"])
    with pytest.raises(JobInvalidError, match="sink 'out' is at-least-once now"):
        check_drained(manifest, [])


def test_the_number_of_key_groups_is_fixed_for_the_life_of_a_job() -> None:
    with pytest.raises(JobInvalidError, match="began with 128 key groups and now asks for 64"):
        check_key_groups(START, 64)


def test_splits_and_ids_are_dealt_out_in_turn() -> None:
    assert [owner(index, 3) for index in range(5)] == [0, 1, 2, 0, 1]
