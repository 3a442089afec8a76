"""Outbox files: one sink subtask's encoded output of one epoch, as a compressed Arrow IPC file."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from .errors import CorruptError

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def seal(batches: Sequence[pa.RecordBatch]) -> bytes:
    """Return the file's bytes; the batches keep their order."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batches[0].schema, options=_OPTIONS) as writer:
        for batch in batches:
            writer.write_batch(batch)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def unseal(name: str, data: bytes) -> list[pa.RecordBatch]:
    """Return the batches of an outbox whose hash has been verified. Raises `CorruptError`."""
    try:
        reader = pa.ipc.open_file(pa.py_buffer(data))
        return [reader.get_batch(index) for index in range(reader.num_record_batches)]
    except pa.ArrowInvalid as error:
        raise CorruptError(f"outbox {name} is not an Arrow file: {error}") from error
