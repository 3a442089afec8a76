"""Lets a confluent-kafka client's callbacks run inside calls that we make to librdkafka directly.

Every callback of confluent-kafka (each client has one for errors) looks up a call state, which its own calls leave in
thread-local storage and by which it takes the interpreter's lock. It ends the process if there is none. So our calls
leave one, too: the thread's state, a mark for callbacks that failed, and their exception.

Where the storage's key stands in the client object is not public. It counts only if everything around it is what we
gave to the client: its handle, its callbacks, its kind.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

from confluent_kafka import KafkaError, KafkaException

from .librdkafka import CONSUMER, read_memory

VERSIONS: Final = "2.16."
"""The releases whose layout is known."""


class _Client(ctypes.Structure):
    """The client object behind its object header."""

    _fields_ = (
        ("handle", ctypes.c_uint64),
        ("error_cb", ctypes.c_uint64),
        ("throttle_cb", ctypes.c_uint64),
        ("stats_cb", ctypes.c_uint64),
        ("initiated", ctypes.c_int),
        ("key_made", ctypes.c_int),
        ("key", ctypes.c_uint),
        ("kind", ctypes.c_int),
    )


class _CallState(ctypes.Structure):
    """What callbacks look up."""

    _fields_ = (
        ("thread_state", ctypes.c_void_p),
        ("crashed", ctypes.c_int),
        ("exception", ctypes.c_void_p),
        ("reserve", ctypes.c_uint64 * 8),
    )


class Callbacks:
    """Call states for one client, which has to live as long as this."""

    def __init__(self, key: int) -> None:
        self._key = key
        self._state = _CallState()

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Inside, the client's callbacks may run. Raises what one of them raised."""
        state = self._state
        ctypes.memset(ctypes.byref(state), 0, ctypes.sizeof(state))
        state.thread_state = _thread_state()
        _set(self._key, ctypes.addressof(state))
        try:
            yield
        finally:
            _set(self._key, None)
        if state.crashed:
            error = KafkaException(KafkaError(KafkaError._FAIL, "a callback of the Kafka client failed"))  # noqa: SLF001 (its public name)
            if not state.exception:
                raise error
            cause = ctypes.cast(state.exception, ctypes.py_object).value
            _forget(state.exception)
            raise error from cause


def callbacks_of(client: object, handle: int, settings: Mapping[str, object]) -> Callbacks | None:
    """Return the callbacks of a consumer that was made with these settings, or None if its layout is another one."""
    if not version("confluent-kafka").startswith(VERSIONS):
        return None
    start = id(client) + object.__basicsize__
    raw = read_memory(start, ctypes.sizeof(_Client))
    if raw is None or type(client).__basicsize__ < object.__basicsize__ + len(raw):
        return None
    found = _Client.from_buffer_copy(raw)
    given = [settings.get(name) for name in ("error_cb", "throttle_cb", "stats_cb")]
    expected = [handle, *(0 if callback is None else id(callback) for callback in given), 1, CONSUMER]
    seen = [found.handle, found.error_cb, found.throttle_cb, found.stats_cb, found.key_made, found.kind]
    key = start + _Client.key_made.offset
    return Callbacks(key) if seen == expected and _get(key) is None else None


_get = ctypes.pythonapi.PyThread_tss_get
_get.restype, _get.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
_set = ctypes.pythonapi.PyThread_tss_set
_set.restype, _set.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_void_p]
_thread_state = ctypes.pythonapi.PyThreadState_Get
_thread_state.restype, _thread_state.argtypes = ctypes.c_void_p, []
_forget = ctypes.pythonapi.Py_DecRef
_forget.restype, _forget.argtypes = None, [ctypes.c_void_p]
