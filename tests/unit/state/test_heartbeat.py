"""The heartbeat object, on a clock of the test's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tidegate.engine.errors import StoreUnavailableError
from tidegate.state.heartbeat import NAME, POLL_S, WATCH_S, Heartbeat
from tidegate.state.store_memory import MemoryStore


class Clock:
    """Time that only passes when somebody sleeps; `then` happens during each sleep."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.then: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass, then let things happen."""
        self.now += seconds
        self.then()

    @property
    def passed_s(self) -> float:
        """How long was slept."""
        return self.now - 1_000.0


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    return MemoryStore(f"memory://{tmp_path.name}", "job")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heartbeat(store: MemoryStore, clock: Clock) -> Callable[[], Heartbeat]:
    return lambda: Heartbeat(store, clock=clock, sleep=clock.sleep)


def _wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not what():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_the_first_start_does_not_wait(heartbeat: Callable[[], Heartbeat], clock: Clock) -> None:
    assert heartbeat().acquire("a")
    assert clock.passed_s == 0


def test_a_counter_that_moves_refuses_the_start(heartbeat: Callable[[], Heartbeat], clock: Clock) -> None:
    holder = heartbeat()
    assert holder.acquire("a")
    clock.then = holder._write
    assert not heartbeat().acquire("b")
    assert clock.passed_s == pytest.approx(POLL_S)


def test_a_slow_beat_within_the_bound_still_refuses(heartbeat: Callable[[], Heartbeat], clock: Clock) -> None:
    holder = heartbeat()
    assert holder.acquire("a")
    clock.then = lambda: holder._write() if clock.passed_s > WATCH_S * 0.8 else None
    assert not heartbeat().acquire("b")


def test_a_counter_that_stands_still_is_dead_after_the_bound(heartbeat: Callable[[], Heartbeat], clock: Clock) -> None:
    assert heartbeat().acquire("a")
    assert heartbeat().acquire("b")
    assert WATCH_S <= clock.passed_s < WATCH_S + 2 * POLL_S


def test_a_dead_holder_of_the_same_locked_file_costs_no_wait(heartbeat: Callable[[], Heartbeat], clock: Clock) -> None:
    assert heartbeat().acquire("boot:1:2")
    assert heartbeat().acquire("boot:1:2")
    assert clock.passed_s == 0


def test_without_a_machine_nobody_is_taken_for_a_dead_neighbour(
    heartbeat: Callable[[], Heartbeat], clock: Clock
) -> None:
    assert heartbeat().acquire("")
    assert heartbeat().acquire("")
    assert clock.passed_s >= WATCH_S


def test_a_release_spares_the_next_start_the_wait(heartbeat: Callable[[], Heartbeat], clock: Clock) -> None:
    holder = heartbeat()
    assert holder.acquire("a")
    holder.release()
    holder.release()
    assert heartbeat().acquire("b")
    assert clock.passed_s == 0


def test_a_release_during_the_watch_ends_it(heartbeat: Callable[[], Heartbeat], clock: Clock) -> None:
    holder = heartbeat()
    assert holder.acquire("a")
    clock.then = holder.release
    assert heartbeat().acquire("b")
    assert clock.passed_s == pytest.approx(POLL_S)


def test_a_release_leaves_a_newer_holders_heartbeat_alone(
    heartbeat: Callable[[], Heartbeat], store: MemoryStore
) -> None:
    old, new = heartbeat(), heartbeat()
    assert old.acquire("a")
    assert new.acquire("a")
    before = store.read(NAME)
    old.release()
    assert store.read(NAME) == before


def test_one_that_never_held_it_releases_nothing(heartbeat: Callable[[], Heartbeat], store: MemoryStore) -> None:
    heartbeat().release()
    assert list(store.list("")) == []


def test_beats_raise_the_counter_from_a_thread_of_their_own(
    heartbeat: Callable[[], Heartbeat], store: MemoryStore
) -> None:
    holder = heartbeat()
    assert holder.acquire("a")
    seen = {store.read(NAME)}
    for _ in range(3):
        before = store.read(NAME)
        holder.beat("a")
        _wait_for(lambda before=before: store.read(NAME) != before)  # type: ignore[misc] # mypy has no type for it
        seen.add(store.read(NAME))
    assert len(seen) == 4
    holder.release()


def test_a_beat_neither_waits_nor_raises_when_the_store_is_gone(
    heartbeat: Callable[[], Heartbeat],
    store: MemoryStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    holder = heartbeat()
    assert holder.acquire("a")

    def gone(name: str, data: bytes) -> None:
        time.sleep(0.3)
        raise StoreUnavailableError("the store is gone")

    monkeypatch.setattr(store, "replace", gone)
    started = time.monotonic()
    for _ in range(100):
        holder.beat("a")
    assert time.monotonic() - started < 0.2
    _wait_for(lambda: "the store is gone" in caplog.text)
    holder.release()


def test_an_end_does_not_wait_for_a_store_that_is_gone(
    heartbeat: Callable[[], Heartbeat], store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = heartbeat()
    assert holder.acquire("a")
    calls: list[str] = []

    def gone(name: str, *_: object) -> bytes:
        calls.append(name)
        raise StoreUnavailableError("the store is gone")

    monkeypatch.setattr(store, "replace", gone)
    monkeypatch.setattr(store, "read", gone)
    holder.beat("a")
    _wait_for(lambda: bool(calls))
    _wait_for(lambda: not holder._wanted.is_set())
    holder.release()
    assert len(calls) == 1


@pytest.mark.parametrize("found", [b"", b"x", b"[]", b"{}", b'{"token":"a"}', b"\xff"])
def test_an_object_that_is_no_heartbeat_is_watched_not_trusted(
    heartbeat: Callable[[], Heartbeat], store: MemoryStore, clock: Clock, found: bytes
) -> None:
    store.replace(NAME, found)
    assert heartbeat().acquire("a")
    assert clock.passed_s >= WATCH_S
