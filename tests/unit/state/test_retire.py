"""The executor of retirement: order, refusal, repetition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from tidegate.engine.errors import StoreUnavailableError
from tidegate.engine.ports.store import CheckpointStore
from tidegate.engine.protocol.manifest import Manifest, StateFile
from tidegate.state.log import StoreLog
from tidegate.state.manifests import to_json
from tidegate.state.retire import Retired, Retirement
from tidegate.state.stores import open_store

from support.manifests import file_ref, manifest
from support.stores import ForwardingStore


def _nothing(_: list[str]) -> None:
    """Let a delete happen."""


class Watched(ForwardingStore):
    """A store that records calls and can fail or act at a delete."""

    def __init__(self, inner: CheckpointStore) -> None:
        super().__init__(inner)
        self.deleted: list[list[str]] = []
        self.reads: list[str] = []
        self.lists: list[str] = []
        self.on_delete: Callable[[list[str]], None] = _nothing

    def read(self, name: str) -> bytes:
        """Record the name."""
        self.reads.append(name)
        return self.inner.read(name)

    def list(self, prefix: str) -> Sequence[str]:
        """Record the prefix."""
        self.lists.append(prefix)
        return self.inner.list(prefix)

    def delete(self, names: Iterable[str]) -> None:
        """Act first, then record the names that are deleted."""
        doomed = [*names]
        self.on_delete(doomed)
        self.deleted.append(doomed)
        self.inner.delete(doomed)


@pytest.fixture
def store(tmp_path: Path) -> Watched:
    return Watched(open_store(f"memory://{tmp_path.name}", "job"))


@pytest.fixture
def log(store: Watched) -> StoreLog:
    return StoreLog(store, "job")


def _decide(log: StoreLog, epoch: int, attempt: int = 1) -> Manifest:
    file = file_ref(f"state/totals/{epoch}-{attempt}-0-0-0.parquet")
    log.store.create(file.name, b"rows")
    made = manifest(epoch, attempt, states=(StateFile("totals", file, 0, 128),) if epoch else ())
    assert log.decide(made)
    return made


def _start(log: StoreLog, epochs: int, attempt: int = 1) -> None:
    assert log.claim(attempt, {})
    for epoch in range(epochs):
        _decide(log, epoch, attempt)


def _files(log: StoreLog) -> list[int]:
    return sorted(int(name.split("/")[2].split("-")[0]) for name in log.store.list("state/"))


def test_old_checkpoints_and_their_files_go(log: StoreLog) -> None:
    _start(log, 8)
    assert Retirement(log, 1, 3).retire() == Retired((1, 2, 3, 4), 5)
    assert list(log.epochs()) == [0, 5, 6, 7]
    assert _files(log) == [5, 6, 7]


def test_manifests_are_deleted_before_their_files(log: StoreLog, store: Watched) -> None:
    _start(log, 5)
    Retirement(log, 1, 2).retire()
    assert store.deleted == [
        ["checkpoints/000000000001.json", "checkpoints/000000000002.json"],
        [f"state/totals/{epoch}-1-0-0-0.parquet" for epoch in range(3)],
    ]


def test_a_newer_attempt_stops_everything(log: StoreLog, store: Watched) -> None:
    _start(log, 8)
    log.claim(2, {})
    done = Retirement(log, 1, 1).retire()
    assert done == Retired(reason="attempt 1 found attempt 2 and deleted nothing")
    assert store.deleted == []


def test_a_newer_attempt_that_appears_between_manifests_and_files_keeps_the_files(
    log: StoreLog, store: Watched
) -> None:
    _start(log, 8)
    store.on_delete = lambda _: store.create("attempts/000002.json", b"x")
    assert Retirement(log, 1, 1).retire().reason == "attempt 1 found attempt 2 and deleted nothing"
    assert len(store.deleted) == 1
    assert _files(log) == list(range(8))


def test_attempts_are_listed_after_the_plan_is_made(log: StoreLog, store: Watched) -> None:
    _start(log, 5)
    store.lists.clear()
    Retirement(log, 1, 1).retire()
    assert store.lists[-2:] == ["attempts/", "attempts/"]


def test_killed_between_manifests_and_files_the_next_start_sweeps_the_files(log: StoreLog, store: Watched) -> None:
    _start(log, 8)

    def die(names: list[str]) -> None:
        if names[0].startswith("state/"):
            raise StoreUnavailableError("gone")

    store.on_delete = die
    with pytest.raises(StoreUnavailableError):
        Retirement(log, 1, 2).retire()
    assert list(log.epochs()) == [0, 6, 7]
    assert _files(log) == list(range(8))
    store.on_delete = _nothing
    assert log.claim(2, {})
    Retirement(log, 2, 2).retire()
    assert _files(log) == [6, 7]


def test_a_failed_delete_is_made_up_for_by_the_next_call(log: StoreLog, store: Watched) -> None:
    _start(log, 6)
    retirement = Retirement(log, 1, 2)
    retirement.retire()
    _decide(log, 6)

    def die(names: list[str]) -> None:
        if names[0].startswith("state/"):
            raise StoreUnavailableError("gone")

    store.on_delete = die
    with pytest.raises(StoreUnavailableError):
        retirement.retire()
    store.on_delete = _nothing
    _decide(log, 7)
    retirement.retire()
    assert _files(log) == [6, 7]


def test_retiring_again_changes_nothing(log: StoreLog, store: Watched) -> None:
    _start(log, 8)
    retirement = Retirement(log, 1, 3)
    retirement.retire()
    deletes = len(store.deleted)
    assert retirement.retire() == Retired()
    assert Retirement(log, 1, 3).retire() == Retired()
    assert len(store.deleted) == deletes


def test_a_remembered_manifest_is_not_read(log: StoreLog, store: Watched) -> None:
    assert log.claim(1, {})
    retirement = Retirement(log, 1, 2)
    for epoch in range(6):
        retirement.remember(_decide(log, epoch))
        retirement.retire()
    assert store.reads == []
    assert list(log.epochs()) == [0, 4, 5]
    assert _files(log) == [4, 5]


def test_first_manifests_of_many_attempts_are_read_once(log: StoreLog, store: Watched) -> None:
    for attempt in range(1, 31):
        assert log.claim(attempt, {})
        _decide(log, attempt - 1, attempt)
    retirement = Retirement(log, 30, 1)
    assert retirement.retire().epochs == ()
    store.reads.clear()
    assert retirement.retire() == Retired()
    assert store.reads == []
    assert list(log.epochs()) == list(range(30))
    assert _files(log) == [29]


def test_one_call_reads_a_bounded_number_of_manifests(
    log: StoreLog, store: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.state.retire.READS_MAX", 4)
    _start(log, 20)
    retirement = Retirement(log, 1, 2)
    retirement.retire()
    assert len(store.reads) <= 4 + 2
    for _ in range(10):
        retirement.retire()
    assert list(log.epochs()) == [0, 18, 19]


def test_savepoints_keep_their_files(log: StoreLog, store: Watched) -> None:
    _start(log, 8)
    store.create("savepoints/before-upgrade.json", to_json(log.read(2)))
    Retirement(log, 1, 1).retire()
    assert _files(log) == [2, 7]
    assert list(store.list("savepoints/")) == ["savepoints/before-upgrade.json"]


@pytest.mark.parametrize("damaged", ["checkpoints/000000000007.json", "savepoints/s.json"])
def test_a_kept_checkpoint_that_cannot_be_read_stops_all_deleting(log: StoreLog, store: Watched, damaged: str) -> None:
    _start(log, 8)
    store.replace(damaged, b"damaged")
    assert Retirement(log, 1, 2).retire().reason.startswith("a kept checkpoint cannot be read, so nothing was deleted")
    assert store.deleted == []


def test_a_damaged_manifest_that_might_go_just_stays(log: StoreLog, store: Watched) -> None:
    _start(log, 8)
    store.replace("checkpoints/000000000003.json", b"damaged")
    Retirement(log, 1, 2).retire()
    assert list(log.epochs()) == [0, 2, 3, 4, 6, 7]  # its neighbours too: they may be the last or first of an attempt


def test_objects_that_no_rule_names_are_never_touched(log: StoreLog, store: Watched) -> None:
    _start(log, 8)
    others = ["alive/heartbeat.json", "notes.txt", "checkpoints/notes.txt", "state/totals/notes.txt"]
    for name in others:
        store.create(name, b"x")
    Retirement(log, 1, 1).retire()
    assert set(others) <= set(store.list(""))
    assert "attempts/000001.json" in store.list("")
