"""Bindings onto the librdkafka that the confluent-kafka wheel ships: batch calls without a Python object per record.

The client handle of a confluent-kafka object is the first pointer behind its object header. That is a fact of today's
wheel, not a promise, so it is checked against the client's own name before anything else is done with it.
"""

from __future__ import annotations

import ctypes
import sys
from enum import IntEnum
from functools import lru_cache
from pathlib import Path
from typing import Final

import confluent_kafka
import numpy as np
import numpy.typing as npt

MESSAGE: Final = np.dtype(
    {
        "names": ["err", "topic", "partition", "payload", "len", "key", "key_len", "offset", "private"],
        "formats": ["<i4", "<u8", "<i4", "<u8", "<u8", "<u8", "<u8", "<i8", "<u8"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56, 64],
        "itemsize": 72,
    }
)
"""Layout of rd_kafka_message_t on 64-bit platforms; part of librdkafka's public interface."""
VU: Final = np.dtype(
    {"names": ["vtype", "first", "second"], "formats": ["<i4", "<u8", "<u8"], "offsets": [0, 8, 16], "itemsize": 72}
)
"""Layout of rd_kafka_vu_t, one argument of rd_kafka_produceva; `first` and `second` are the words of its union."""


class Vtype(IntEnum):
    """Kinds of arguments of rd_kafka_produceva."""

    RKT = 2
    PARTITION = 3
    VALUE = 4
    KEY = 5
    MSGFLAGS = 7
    TIMESTAMP = 8


F_COPY: Final = 2
F_PARTITION: Final = 8
PARTITION_UA: Final = -1
QUEUE_FULL: Final = -184
PARTITION_EOF: Final = -191
_ADDRESS_BASE: Final = 4096


class _AddressSpace:
    """The process's memory as one array, so that numpy can gather from many addresses in one call."""

    def __init__(self, dtype: str) -> None:
        size = np.dtype(dtype).itemsize
        self.__array_interface__ = {
            "data": (_ADDRESS_BASE, True),
            "shape": ((1 << 47) // size,),
            "typestr": np.dtype(dtype).str,
            "version": 3,
        }


@lru_cache(maxsize=1)
def memory64() -> npt.NDArray[np.uint64]:
    """Return the view of memory in aligned 8-byte words."""
    return np.asarray(_AddressSpace("<u8"))


def gather(addresses: npt.NDArray[np.uint64], offset: int) -> npt.NDArray[np.uint64]:
    """Return the 8-byte words at `addresses + offset`, all of which have to be aligned and mapped."""
    words = (addresses.astype(np.int64) + (offset - _ADDRESS_BASE)) >> 3
    found: npt.NDArray[np.uint64] = memory64()[words]
    return found


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """Return the wheel's own librdkafka, or None where it cannot be used this way."""
    if sys.byteorder != "little" or sys.maxsize < 2**32 or not hasattr(sys, "getrefcount"):
        return None
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    found = sorted(folder.glob("librdkafka-*.so*"))
    if len(found) != 1:
        return None
    lib = ctypes.CDLL(str(found[0]))
    lib.rd_kafka_name.restype = ctypes.c_char_p
    lib.rd_kafka_name.argtypes = [ctypes.c_void_p]
    lib.rd_kafka_queue_get_consumer.restype = ctypes.c_void_p
    lib.rd_kafka_queue_get_consumer.argtypes = [ctypes.c_void_p]
    lib.rd_kafka_queue_destroy.argtypes = [ctypes.c_void_p]
    lib.rd_kafka_consume_batch_queue.restype = ctypes.c_ssize_t
    lib.rd_kafka_consume_batch_queue.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    lib.rd_kafka_topic_name.restype = ctypes.c_char_p
    lib.rd_kafka_topic_name.argtypes = [ctypes.c_void_p]
    lib.rd_kafka_topic_new.restype = ctypes.c_void_p
    lib.rd_kafka_topic_new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    lib.rd_kafka_topic_destroy.argtypes = [ctypes.c_void_p]
    lib.rd_kafka_produce_batch.restype = ctypes.c_int
    lib.rd_kafka_produce_batch.argtypes = [
        ctypes.c_void_p, ctypes.c_int32, ctypes.c_int, ctypes.c_void_p, ctypes.c_int,
    ]  # fmt: skip
    return lib


@lru_cache(maxsize=1)
def quick_library() -> ctypes.PyDLL:
    """Return the library for calls of nanoseconds: they keep the interpreter's lock instead of handing it over."""
    lib = library()
    assert lib is not None
    quick = ctypes.PyDLL(lib._name)  # noqa: SLF001 (the path it was loaded from)
    quick.rd_kafka_message_destroy.argtypes = [ctypes.c_void_p]
    quick.rd_kafka_message_destroy.restype = None
    quick.rd_kafka_message_timestamp.restype = ctypes.c_int64
    quick.rd_kafka_message_timestamp.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    quick.rd_kafka_produceva.restype = ctypes.c_void_p
    quick.rd_kafka_produceva.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    quick.rd_kafka_error_code.restype = ctypes.c_int
    quick.rd_kafka_error_code.argtypes = [ctypes.c_void_p]
    quick.rd_kafka_error_destroy.argtypes = [ctypes.c_void_p]
    quick.rd_kafka_error_destroy.restype = None
    return quick


def handle_of(client: object, name_prefix: str) -> int | None:
    """Return the address of the client's rd_kafka_t, or None if it cannot be trusted to be one.

    `name_prefix` is the client.id that the object was made with: the handle has to know it.
    """
    lib = library()
    if lib is None or (sys.version_info >= (3, 13) and not sys._is_gil_enabled()):  # noqa: SLF001 (how CPython tells)
        return None
    address = ctypes.c_void_p.from_address(id(client) + object.__basicsize__).value
    if not address or address % 8:
        return None
    name = lib.rd_kafka_name(address)
    return address if name is not None and name.startswith(name_prefix.encode()) else None
