"""Bindings onto the librdkafka that the confluent-kafka wheel ships: batch calls without a Python object per record.

The client handle of a confluent-kafka object is the first pointer behind its object header. That is a fact of today's
wheel, not a promise. So nothing here trusts it: the pointer and what it points to are read through the kernel, which
answers with an error where a wrong pointer would end the process, and they count only if the client's name, which we
chose, stands there. Where anything is not as expected, the callers fall back to confluent-kafka's own calls.

Calls that serve a client's queues run its callbacks; those of confluent-kafka end the process unless `callbacks` has
made room for them.
"""

from __future__ import annotations

import ctypes
import os
import sys
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import confluent_kafka
from confluent_kafka import Consumer, Producer

from ...engine.errors import JobInvalidError

EDGE: Final = "TIDEGATE_KAFKA_EDGE"
"""Environment variable that picks how records come and go: `native` or `python`; by default native where it works."""
EDGES: Final = ("native", "python")
F_COPY: Final = 2
QUEUE_FULL: Final = -184
PARTITION_EOF: Final = -191
NAME_BYTES_MAX: Final = 128
_MEMORY: Final = Path("/proc/self/mem")


PRODUCER: Final = 0
CONSUMER: Final = 1
"""Kinds of clients, as rd_kafka_type tells them."""


class Vtype(IntEnum):
    """Kinds of arguments of rd_kafka_produceva."""

    RKT = 2
    PARTITION = 3
    VALUE = 4
    KEY = 5
    MSGFLAGS = 7
    TIMESTAMP = 8
    HEADER = 9


_P, _I64, _SIZE, _TEXT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_size_t, ctypes.c_char_p
# Calls that may wait or do much: the interpreter's lock is given up for them.
_SLOW: Final = {
    "rd_kafka_consume_batch_queue": (ctypes.c_ssize_t, (_P, ctypes.c_int, _P, _SIZE)),
    "rd_kafka_err2str": (_TEXT, (ctypes.c_int,)),
    "rd_kafka_messages_count": (_SIZE, (_P,)),
    "rd_kafka_messages_destroy": (None, (_P,)),
    "rd_kafka_messages_get": (_P, (_P, _SIZE)),
    "rd_kafka_name": (_P, (_P,)),
    "rd_kafka_queue_destroy": (None, (_P,)),
    "rd_kafka_queue_get_consumer": (_P, (_P,)),
    "rd_kafka_topic_destroy": (None, (_P,)),
    "rd_kafka_topic_name": (_TEXT, (_P,)),
    "rd_kafka_topic_new": (_P, (_P, _TEXT, _P)),
    "rd_kafka_type": (ctypes.c_int, (_P,)),
    "rd_kafka_version": (ctypes.c_int, ()),
}
# Calls that take nanoseconds: they keep the interpreter's lock.
_QUICK: Final = {
    "rd_kafka_error_code": (ctypes.c_int, (_P,)),
    "rd_kafka_error_destroy": (None, (_P,)),
    "rd_kafka_header_get_all": (ctypes.c_int, (_P, _SIZE, _P, _P, _P)),
    "rd_kafka_message_destroy": (None, (_P,)),
    "rd_kafka_message_headers": (ctypes.c_int, (_P, _P)),
    "rd_kafka_message_timestamp": (_I64, (_P, _P)),
}


class Unavailable(NamedTuple):
    """Why librdkafka cannot be called directly."""

    reason: str


@lru_cache(maxsize=1)
def _loaded() -> tuple[ctypes.CDLL, ctypes.PyDLL] | Unavailable:
    """Return the library that confluent-kafka itself uses, bound in both ways, or why that is not possible."""
    if sys.byteorder != "little" or sys.maxsize < 2**32:
        return Unavailable("this is no 64-bit little-endian machine")
    if not _MEMORY.exists():
        return Unavailable("this system has no /proc/self/mem to check addresses with")
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    found = sorted(folder.glob("librdkafka-*.so*"))
    if len(found) != 1:
        return Unavailable(f"confluent-kafka has {len(found)} libraries called librdkafka in {folder}")
    try:
        # Only what is loaded already: a second copy would know nothing of the first one's clients.
        slow = ctypes.CDLL(str(found[0]), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        quick = ctypes.PyDLL(str(found[0]), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        for library, functions in ((slow, _SLOW), (quick, _QUICK)):
            for name, (result, arguments) in functions.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, list(arguments)
    except (OSError, AttributeError) as error:
        return Unavailable(f"librdkafka cannot be bound: {error}")
    if slow.rd_kafka_version() != confluent_kafka.libversion()[1]:
        return Unavailable("confluent-kafka uses another librdkafka than its own")
    return slow, quick


def chosen_edge() -> str | None:
    """Return what the environment asks for. Raises `JobInvalidError` for anything but `native` and `python`."""
    found = os.environ.get(EDGE) or None
    if found is not None and found not in EDGES:
        raise JobInvalidError(f"{EDGE} is {found!r}", hint=f"use one of {', '.join(EDGES)}, or leave it out")
    return found


def available() -> tuple[bool, str]:
    """Tell whether librdkafka can be called directly, and if not, why."""
    found = _loaded()
    return (False, found.reason) if isinstance(found, Unavailable) else (True, "")


def library() -> ctypes.CDLL:
    """Return the library for calls that may wait. Raises `RuntimeError` where it is not available."""
    return _both()[0]


def quick_library() -> ctypes.PyDLL:
    """Return the library for calls that take nanoseconds. Raises `RuntimeError` where it is not available."""
    return _both()[1]


def unchecked(name: str, result: type[Any] | None) -> Any:
    """Return a quick function of the library whose arguments have to be ctypes objects of the right kind already."""
    function = ctypes.PyDLL(quick_library()._name)[name]  # noqa: SLF001 (the path it was loaded from)
    function.restype = result
    return function


def _both() -> tuple[ctypes.CDLL, ctypes.PyDLL]:
    found = _loaded()
    if isinstance(found, Unavailable):
        raise RuntimeError(found.reason)  # noqa: TRY004 (nobody passed a wrong type)
    return found


def handle_of(client: Consumer | Producer, name: str) -> int | None:
    """Return the address of the client's rd_kafka_t, or None if it cannot be trusted to be one.

    `name` is the client.id that the object was made with, of which the client makes its own name.
    """
    if not available()[0] or not name or type(client).__basicsize__ < object.__basicsize__ + 8:
        return None
    pointer = read_memory(id(client) + object.__basicsize__, 8)
    address = int.from_bytes(pointer or b"", "little")
    if not address or address % 8 or read_memory(address, 8) is None:
        return None
    kind, word = (PRODUCER, "producer") if isinstance(client, Producer) else (CONSUMER, "consumer")
    # The name is part of the client's own memory: asking for it computes an address, and reads nothing.
    stands = read_memory(library().rd_kafka_name(address), NAME_BYTES_MAX)
    if stands is None or not stands.startswith(f"{name}#{word}-".encode()):
        return None
    return address if library().rd_kafka_type(address) == kind else None


def read_memory(address: int | None, size: int) -> bytes | None:
    """Return bytes of this process's memory, or None where there are none."""
    if not address or not 0 < address < 1 << 47:
        return None
    try:
        with _MEMORY.open("rb", buffering=0) as memory:
            found = os.pread(memory.fileno(), size, address)
    except OSError:
        return None
    return found if len(found) == size else None


def text_of_code(code: int) -> str:
    """Return librdkafka's words for an error code."""
    found: bytes = library().rd_kafka_err2str(code)
    return found.decode()
