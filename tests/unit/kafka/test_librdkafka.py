"""Which objects are taken for clients, and which module is chosen."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from tidegate.connectors.kafka import callbacks, librdkafka
from tidegate.connectors.kafka.callbacks import callbacks_of
from tidegate.connectors.kafka.consume import open_batches
from tidegate.connectors.kafka.consume_native import NativeConsumer, _bulk_destroy
from tidegate.connectors.kafka.consume_python import PythonConsumer
from tidegate.connectors.kafka.librdkafka import EDGE, available, handle_of, library
from tidegate.engine.errors import JobInvalidError
from tidegate.engine.options import NOT_OPTIONS

QUIET: dict[str, str | int | float | bool] = {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}


def consumer(name: str) -> Consumer:
    return Consumer({**QUIET, "group.id": "tests", "client.id": name})


def open_any(name: str) -> object:
    settings = {**QUIET, "group.id": "tests", "client.id": name}
    batches = open_batches(Consumer(settings), settings, rows_max=10, keys=True, timestamps=True, headers=True)
    batches.close()
    return type(batches)


def test_the_wheels_own_library_can_be_called() -> None:
    assert available() == (True, "")


def test_a_client_is_recognised_by_its_name() -> None:
    for client in (consumer("tests-1"), Producer({**QUIET, "client.id": "tests-1"})):
        handle = handle_of(client, "tests-1")
        assert handle is not None
        assert ctypes.string_at(library().rd_kafka_name(handle)).startswith(b"tests-1#")


@pytest.mark.parametrize("name", ["tests-2", "tests", "", "tests-1#", "ests-1"])
def test_a_client_of_another_name_is_not_trusted(name: str) -> None:
    assert handle_of(consumer("tests-1"), name) is None


def test_other_objects_are_not_taken_for_clients() -> None:
    class Thing:
        __slots__ = ("first",)

    thing = Thing()
    others: list[Any] = [thing, object(), "text", 2**62, 12.5, [1], (), np.arange(5), AdminClient(QUIET)]
    for first in (None, 2**40, "tests-1"):
        thing.first = first  # type: ignore[attr-defined]  # a slot
        assert [handle_of(other, "tests-1") for other in others] == [None] * len(others)


def test_the_native_module_is_chosen_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EDGE, raising=False)
    assert open_any("tests-1") is NativeConsumer


def test_the_environment_may_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EDGE, "python")
    assert open_any("tests-1") is PythonConsumer
    monkeypatch.setenv(EDGE, "native")
    assert open_any("tests-1") is NativeConsumer
    monkeypatch.setenv(EDGE, "quick")
    with pytest.raises(JobInvalidError, match="is 'quick'"):
        open_any("tests-1")


def test_the_variable_is_not_taken_for_an_option() -> None:
    assert EDGE in NOT_OPTIONS


def test_without_the_library_there_is_the_other_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(librdkafka, "_loaded", lambda: librdkafka.Unavailable("there is none"))
    monkeypatch.delenv(EDGE, raising=False)
    assert available() == (False, "there is none")
    assert open_any("tests-1") is PythonConsumer
    with pytest.raises(RuntimeError, match="there is none"):
        library()
    monkeypatch.setenv(EDGE, "native")
    with pytest.raises(JobInvalidError, match="there is none"):
        open_any("tests-1")


def test_many_messages_are_given_back_in_one_call_only_if_the_library_sees_them_as_we_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bulk = _bulk_destroy()
    assert bulk is not None
    monkeypatch.setattr(bulk._lib, "rd_kafka_messages_count", lambda _: 4)
    assert not bulk.is_right()
    assert _bulk_destroy() is None


def test_callbacks_are_allowed_only_for_a_client_that_was_made_with_them() -> None:
    def report(_: object) -> None:
        return

    settings: dict[str, Any] = {**QUIET, "group.id": "tests", "client.id": "tests-1", "error_cb": report}
    client = Consumer(settings)
    handle = handle_of(client, "tests-1")
    assert handle is not None
    assert callbacks_of(client, handle, settings) is not None
    assert callbacks_of(client, handle, {**settings, "error_cb": None}) is None
    assert callbacks_of(client, handle, {**settings, "stats_cb": report}) is None
    assert callbacks_of(client, handle + 8, settings) is None
    assert callbacks_of(Producer({**QUIET, "client.id": "tests-1"}), handle, settings) is None


def test_callbacks_of_another_release_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callbacks, "VERSIONS", "2.17.")
    monkeypatch.delenv(EDGE, raising=False)
    assert open_any("tests-1") is PythonConsumer
