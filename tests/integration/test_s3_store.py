"""The S3 checkpoint store against a real server: outages, freezes, lost answers, credentials."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tidegate.engine.errors import (
    StoreDeniedError,
    StoreExistsError,
    StoreFullError,
    StoreMissingError,
    StoreUnavailableError,
)
from tidegate.engine.ports.store import CheckpointStore
from tidegate.state.log import open_log
from tidegate.state.store_s3 import CALL_S_MAX, TRY_S_MAX
from tidegate.state.stores import open_store

from services.s3 import S3Server
from support.faulty_proxy import Fault, FaultyProxy, broken_body, error, lost_answer, lost_request
from support.manifests import manifest

BOUND_S = CALL_S_MAX + TRY_S_MAX + 2.0
REPLACE_BOUND_S = TRY_S_MAX + 2.0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.make_bucket("bucket")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(shared: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    for name, value in shared.environment.items():
        monkeypatch.setenv(name, value)
    return shared


@pytest.fixture
def storage(server: S3Server, tmp_path: Path) -> str:
    return f"s3://bucket/{tmp_path.name}"


@pytest.fixture
def proxy(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(("127.0.0.1", server.port))
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    yield proxy
    proxy.close()


def _timed(call: Callable[[], object]) -> tuple[float, BaseException | None]:
    started = time.monotonic()
    try:
        call()
    except StoreUnavailableError as failure:
        return time.monotonic() - started, failure
    return time.monotonic() - started, None


def _calls(store: CheckpointStore) -> dict[str, Callable[[], object]]:
    return {
        "create": lambda: store.create("new", b"x" * 200_000),
        "read": lambda: store.read("there"),
        "list": lambda: store.list(""),
        "delete": lambda: store.delete(["gone"]),
        "replace": lambda: store.replace("alive", b"x"),
    }


def test_a_frozen_server_fails_every_call_within_its_bound_and_the_next_call_works(
    server: S3Server, storage: str
) -> None:
    store, fresh = open_store(storage, "job"), open_store(storage, "job")
    store.create("there", b"x")
    server.freeze()
    try:
        with ThreadPoolExecutor(6) as pool:
            running = {name: pool.submit(_timed, call) for name, call in _calls(store).items()}
            running["connect"] = pool.submit(_timed, lambda: fresh.read("there"))
            ended = {name: future.result(60) for name, future in running.items()}
    finally:
        server.thaw()
    for name, (seconds, failure) in ended.items():
        assert isinstance(failure, StoreUnavailableError), name
        assert storage in failure.message
        assert seconds < (REPLACE_BOUND_S if name == "replace" else BOUND_S), name
    for call in _calls(store).values():
        seconds, failure = _timed(call)
        assert failure is None
        assert seconds < TRY_S_MAX
    assert fresh.read("new") == b"x" * 200_000


def test_a_server_that_is_down_fails_within_the_bound_and_works_when_it_is_back(server: S3Server, storage: str) -> None:
    store = open_store(storage, "job")
    store.create("there", b"x")
    server.kill()
    try:
        with ThreadPoolExecutor(5) as pool:
            ended = dict(zip(_calls(store), pool.map(_timed, _calls(store).values()), strict=True))
    finally:
        server.start()
    for name, (seconds, failure) in ended.items():
        assert isinstance(failure, StoreUnavailableError), name
        assert failure.retryable
        assert "AWS_ENDPOINT_URL" in failure.hint
        assert seconds < BOUND_S, name
    assert store.read("there") == b"x"
    store.create("new", b"x" * 200_000)


def test_an_outage_shorter_than_the_bound_is_only_a_delay(server: S3Server, storage: str) -> None:
    store = open_store(storage, "job")
    server.freeze()
    with ThreadPoolExecutor(1) as pool:
        created = pool.submit(store.create, "a", b"1")
        time.sleep(5)
        server.thaw()
        created.result(BOUND_S)
    assert store.read("a") == b"1"


def test_no_request_waits_for_the_servers_leave_to_send_its_body(proxy: FaultyProxy, storage: str) -> None:
    store = open_store(storage, "job")
    store.create("a", b"x" * 100_000)
    store.replace("b", b"x")
    assert proxy.requests == ["PUT", "PUT"]
    assert proxy.expectations == []


def test_a_create_whose_answer_was_lost_meets_its_own_bytes(proxy: FaultyProxy, storage: str) -> None:
    store = open_store(storage, "job")
    proxy.faults.append(lost_answer("PUT"))
    store.create("a", b"mine")
    assert proxy.requests.count("PUT") == 2
    assert store.read("a") == b"mine"


def test_a_lost_answer_does_not_make_another_writers_object_ours(proxy: FaultyProxy, storage: str) -> None:
    store = open_store(storage, "job")
    open_store(storage, "job").create("a", b"theirs")
    proxy.faults.append(lost_answer("PUT"))
    with pytest.raises(StoreExistsError):
        store.create("a", b"mine")


def test_a_decision_whose_answers_were_all_lost_is_resolved_by_deciding_again(
    proxy: FaultyProxy, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.state.store_s3.CALL_S_MAX", 1.0)
    log = open_log(storage, "job")
    proxy.faults.extend([lost_answer("PUT")] * 500)
    with pytest.raises(StoreUnavailableError):
        log.decide(manifest(1, writer="ours"))
    proxy.faults.clear()
    assert log.decide(manifest(1, writer="ours"))
    assert not open_log(storage, "job").decide(manifest(1, writer="theirs"))


@pytest.mark.parametrize(
    "fault",
    [
        error("PUT", 500, "InternalError"),
        error("PUT", 503, "SlowDown"),
        error("PUT", 503, "ServiceUnavailable"),
        error("PUT", 409, "ConditionalRequestConflict"),
        error("PUT", 400, "RequestTimeout"),
        lost_request("PUT"),
        lost_answer("PUT"),
    ],
    ids=lambda fault: fault.code or str(fault.reaches),
)
def test_a_passing_fault_of_a_create_is_tried_again(proxy: FaultyProxy, storage: str, fault: Fault) -> None:
    store = open_store(storage, "job")
    proxy.faults.extend([fault] * 3)
    store.create("a", b"mine")
    assert store.read("a") == b"mine"
    assert not proxy.faults


@pytest.mark.parametrize(
    "fault",
    [error("GET", 503, "SlowDown"), lost_answer("GET"), broken_body("GET", 1000)],
    ids=["503", "lost", "broken"],
)
def test_a_read_never_returns_part_of_an_object(proxy: FaultyProxy, storage: str, fault: Fault) -> None:
    store = open_store(storage, "job")
    store.create("a", b"x" * 100_000)
    proxy.faults.extend([fault] * 2)
    assert store.read("a") == b"x" * 100_000
    proxy.faults.extend([fault] * 2)
    assert list(store.list("")) == ["a"]


def test_a_taken_name_is_recognised_in_every_shape_servers_give_it(proxy: FaultyProxy, storage: str) -> None:
    store = open_store(storage, "job")
    store.create("a", b"first")
    for code in ("PreconditionFailed", "AtTheServersTaste"):
        proxy.faults.append(error("PUT", 412, code))
        with pytest.raises(StoreExistsError):
            store.create("a", b"other")
        proxy.faults.append(error("PUT", 412, code))
        store.create("a", b"first")


@pytest.mark.parametrize("code", ["ExpiredToken", "AccessDenied", "InvalidAccessKeyId", "Whatever"])
def test_a_refusal_is_not_tried_again(proxy: FaultyProxy, storage: str, code: str) -> None:
    store = open_store(storage, "job")
    proxy.faults.extend([error("PUT", 403, code)] * 2)
    with pytest.raises(StoreDeniedError, match=code) as refused:
        store.create("a", b"x")
    assert "AWS_ACCESS_KEY_ID" in refused.value.hint
    assert proxy.requests.count("PUT") == 1


def test_a_full_bucket_is_said(proxy: FaultyProxy, storage: str) -> None:
    proxy.faults.append(error("PUT", 507, "InsufficientStorage"))
    with pytest.raises(StoreFullError, match="create a"):
        open_store(storage, "job").create("a", b"x")


def test_objects_that_could_not_be_deleted_are_said(
    server: S3Server, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(storage, "job")
    store.create("a", b"x")
    monkeypatch.setattr("tidegate.state.store_s3.CALL_S_MAX", 1.0)
    answer = {"Errors": [{"Key": "a", "Code": "InternalError"}]}
    monkeypatch.setattr("tidegate.state.s3_filesystem.BoundedS3FileSystem.call_s3", lambda *_, **__: answer)
    with pytest.raises(StoreUnavailableError, match="InternalError"):
        store.delete(["a"])


def test_a_wrong_secret_is_refused_at_once_and_not_repeated(
    server: S3Server, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-hunter2")
    store = open_store(storage, "job")
    started = time.monotonic()
    for call in (lambda: store.create("a", b"x"), lambda: store.read("a"), lambda: store.list("")):
        with pytest.raises(StoreDeniedError) as refused:
            call()
        assert not refused.value.retryable
        assert "hunter2" not in str(refused.value)
    assert time.monotonic() - started < TRY_S_MAX


def test_an_unknown_key_is_refused_at_once(server: S3Server, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NOBODY")
    with pytest.raises(StoreDeniedError):
        open_store(storage, "job").create("a", b"x")


def test_missing_credentials_are_said(
    server: S3Server, storage: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(StoreDeniedError, match="redentials"):
        open_store(storage, "job").create("a", b"x")


def test_a_missing_bucket_is_said_by_every_call(server: S3Server) -> None:
    store = open_store("s3://no-such-bucket/x", "job")
    for call in (lambda: store.create("a", b"x"), lambda: store.read("a"), lambda: store.list("")):
        with pytest.raises(StoreDeniedError, match="NoSuchBucket") as refused:
            call()
        assert "create the bucket 'no-such-bucket'" in refused.value.hint


def test_a_bucket_without_a_prefix_serves(server: S3Server, tmp_path: Path) -> None:
    store = open_store("s3://bucket", tmp_path.name.replace("_", "-"))
    store.create("state/t/1", b"x")
    assert list(store.list("state/")) == ["state/t/1"]
    store.delete(["state/t/1"])
    with pytest.raises(StoreMissingError):
        store.read("state/t/1")


def test_objects_of_another_prefix_with_the_same_beginning_are_not_listed(server: S3Server, storage: str) -> None:
    open_store(storage, "job-2").create("state/t/1", b"x")
    open_store(storage, "job").create("state-2/t/1", b"x")
    assert list(open_store(storage, "job").list("state/")) == []
