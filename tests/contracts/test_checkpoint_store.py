"""The checkpoint store port: one suite for every implementation."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tidegate.engine.errors import CorruptError, StoreExistsError, StoreMissingError, TidegateError
from tidegate.state.stores import open_store

CREATORS = 8
BAD_NAMES = [
    "",
    "/a",
    "a//b",
    "../a",
    "a/../b",
    "a/..",
    "a/.",
    "./a",
    "a/",
    "a b",
    "a~",
    "a\\b",
    "a\0",
    "ä",
    "a\n",
    "x" * 129,
]


def test_what_was_created_is_read_back_by_another_instance(storage: str) -> None:
    open_store(storage, "job").create("state/totals/1-1-0-0-0.parquet", b"rows")
    assert open_store(storage, "job").read("state/totals/1-1-0-0-0.parquet") == b"rows"


def test_an_empty_object_is_an_object(storage: str) -> None:
    store = open_store(storage, "job")
    store.create("a", b"")
    assert store.read("a") == b""
    with pytest.raises(StoreExistsError):
        store.create("a", b"x")


def test_a_large_object_comes_back_whole(storage: str) -> None:
    data = bytes(range(256)) * 4 * 4096
    store = open_store(storage, "job")
    store.create("outbox/out/1-1-0-0-0.arrow", data)
    assert store.read("outbox/out/1-1-0-0-0.arrow") == data


def test_a_taken_name_is_refused_and_keeps_its_bytes(storage: str) -> None:
    store = open_store(storage, "job")
    store.create("checkpoints/000000000001.json", b"first")
    with pytest.raises(StoreExistsError):
        open_store(storage, "job").create("checkpoints/000000000001.json", b"other")
    assert store.read("checkpoints/000000000001.json") == b"first"


def test_creating_the_same_bytes_again_counts_as_success(storage: str) -> None:
    store = open_store(storage, "job")
    store.create("a/b", b"same")
    store.create("a/b", b"same")
    open_store(storage, "job").create("a/b", b"same")
    assert store.read("a/b") == b"same"


def test_exactly_one_of_many_concurrent_creators_wins(storage: str) -> None:
    stores = [open_store(storage, "job") for _ in range(CREATORS)]
    for attempt in range(5):
        together = threading.Barrier(CREATORS)

        def create(i: int, name: str = f"checkpoints/{attempt}.json", together: threading.Barrier = together) -> bool:
            together.wait(10)
            try:
                stores[i].create(name, b"writer %d" % i)
            except StoreExistsError:
                return False
            return True

        with ThreadPoolExecutor(CREATORS) as pool:
            won = list(pool.map(create, range(CREATORS)))
        assert won.count(True) == 1
        assert stores[0].read(f"checkpoints/{attempt}.json") == b"writer %d" % won.index(True)


def test_a_missing_object_says_so(storage: str) -> None:
    with pytest.raises(StoreMissingError, match="nothing/here"):
        open_store(storage, "job").read("nothing/here")


def test_listing_is_sorted_recursive_and_never_stale(storage: str) -> None:
    store, other = open_store(storage, "job"), open_store(storage, "job")
    assert store.list("state/") == []
    for name in ("state/b/2", "state/a/1", "state/b/1", "outbox/a/1", "statement"):
        other.create(name, b"x")
    assert list(store.list("state/")) == ["state/a/1", "state/b/1", "state/b/2"]
    assert list(store.list("state/b/")) == ["state/b/1", "state/b/2"]
    other.delete(["state/b/1"])
    other.create("state/b/3", b"x")
    assert list(store.list("state/")) == ["state/a/1", "state/b/2", "state/b/3"]
    assert list(store.list("")) == ["outbox/a/1", "state/a/1", "state/b/2", "state/b/3", "statement"]


def test_a_listing_of_more_than_a_thousand_objects_is_whole(storage: str) -> None:
    store = open_store(storage, "job")
    names = [f"state/t/{i:05d}" for i in range(1_003)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: store.create(name, b"x"), names))
    assert list(store.list("state/")) == names
    store.delete(names)
    assert list(store.list("state/")) == []


def test_deleting_passes_over_what_is_not_there(storage: str) -> None:
    store = open_store(storage, "job")
    store.create("a/1", b"x")
    store.create("a/2", b"x")
    store.delete(["a/1", "a/9", "b/1"])
    store.delete([])
    assert list(store.list("a/")) == ["a/2"]


def test_a_deleted_name_is_free_again(storage: str) -> None:
    store = open_store(storage, "job")
    store.create("a", b"1")
    store.delete(["a"])
    store.create("a", b"2")
    assert store.read("a") == b"2"


def test_replace_overwrites(storage: str) -> None:
    store = open_store(storage, "job")
    store.replace("alive/x", b"1")
    store.replace("alive/x", b"22")
    assert store.read("alive/x") == b"22"


def test_jobs_do_not_see_each_other(storage: str) -> None:
    open_store(storage, "job").create("a", b"1")
    other = open_store(storage, "job2")
    assert other.list("") == []
    other.create("a", b"2")
    assert open_store(storage, "job").read("a") == b"1"


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_leads_elsewhere_is_refused(storage: str, name: str) -> None:
    store = open_store(storage, "job")
    for call in (
        lambda: store.create(name, b"x"),
        lambda: store.replace(name, b"x"),
        lambda: store.read(name),
        lambda: store.delete([name]),
    ):
        with pytest.raises(CorruptError):
            call()


@pytest.mark.parametrize("prefix", ["state", "/", "../", "state//", "a/../"])
def test_a_prefix_that_leads_elsewhere_is_refused(storage: str, prefix: str) -> None:
    with pytest.raises(TidegateError):
        open_store(storage, "job").list(prefix)


def test_threads_share_an_instance(storage: str) -> None:
    store = open_store(storage, "job")

    def work(i: int) -> bytes:
        store.create(f"state/t/{i}", b"%d" % i)
        return store.read(f"state/t/{i}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(64))) == [b"%d" % i for i in range(64)]


def test_messages_name_the_place(storage: str) -> None:
    store = open_store(storage, "job")
    assert store.url.endswith("/job")
    store.create("a", b"1")
    with pytest.raises(StoreExistsError) as refused:
        store.create("a", b"2")
    assert store.url in str(refused.value)
