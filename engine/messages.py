"""The messages between coordinator and workers, and their JSON form.

Every message is one JSON object with its type in the field `type`; decoding checks every field's type and refuses
unknown messages. Nothing in them is ever executed or unpickled.
"""

from __future__ import annotations

from typing import Final

import msgspec

from .errors import ProtocolError
from .protocol.manifest import Committable, SinkSubtask, SplitPosition, StateFile
from .settings import Settings


class Setup(msgspec.Struct, tag=True, frozen=True):
    """To a worker: everything about the attempt and the part of the job that this worker runs."""

    reference: str
    job: str
    job_uid: str
    attempt: int
    subtask: int
    parallelism: int
    key_groups: int
    epoch: int
    settings: Settings
    splits: list[SplitPosition]
    states: list[StateFile]
    sinks: list[SinkSubtask]
    targets: dict[str, dict[str, object]]
    watermarks: dict[str, int]
    peers: list[str]
    token: str


class CommitPending(msgspec.Struct, tag=True, frozen=True):
    """To a worker, once, after all workers are fenced: the output of the newest manifest that is its to commit."""

    committables: list[Committable]


class Run(msgspec.Struct, tag=True, frozen=True):
    """To a worker: seek and read sources."""


class SendBarrier(msgspec.Struct, tag=True, frozen=True):
    """To a worker: close the epoch. `splits` are new ones, to be read from this barrier on."""

    epoch: int
    tries: int
    splits: list[SplitPosition] = []
    last: bool = False


class AbandonTry(msgspec.Struct, tag=True, frozen=True):
    """To a worker: this try of the epoch is void; its rows stay in the epoch."""

    epoch: int
    tries: int


class Decided(msgspec.Struct, tag=True, frozen=True):
    """To a worker: the manifest exists; commit the epoch's output."""

    epoch: int
    tries: int


class Leave(msgspec.Struct, tag=True, frozen=True):
    """To a worker: everything is done, close and exit 0."""


ToWorker = Setup | CommitPending | Run | SendBarrier | AbandonTry | Decided | Leave


class Fenced(msgspec.Struct, tag=True, frozen=True):
    """From a worker: ids are fenced and the ledger read; `committed` is sink uid -> subtask -> epoch."""

    committed: dict[str, dict[int, int]]


class Ack(msgspec.Struct, tag=True, frozen=True):
    """From a worker: all its files of this try are durable."""

    epoch: int
    tries: int
    splits: list[SplitPosition]
    states: list[StateFile]
    committables: list[Committable]
    watermarks: dict[str, int]
    counters: dict[str, int]
    durations_ms: dict[str, float]


class TryFailed(msgspec.Struct, tag=True, frozen=True):
    """From a worker: its part of this try could not be made durable."""

    epoch: int
    tries: int
    reason: str


class Committed(msgspec.Struct, tag=True, frozen=True):
    """From a worker: all output of one sink subtask up to `epoch` is known to be committed."""

    sink_uid: str
    subtask: int
    epoch: int


class SourcesFinished(msgspec.Struct, tag=True, frozen=True):
    """From a worker: every split it reads has reached its end; barriers still pass."""


class Progress(msgspec.Struct, tag=True, frozen=True):
    """From a worker, about once a second: signs of life and figures since the attempt began."""

    rows_in: int
    rows_out: int
    late: int
    skipped: int
    watermark: int | None
    backlog_bytes: int
    state_rows: int
    state_bytes: int
    caught_up: bool
    waiting_on: str = ""


class Failed(msgspec.Struct, tag=True, frozen=True):
    """From a worker, its last message: why it ends."""

    error: str
    message: str
    hint: str
    retryable: bool
    exit_code: int
    newer: int | None = None


ToCoordinator = Fenced | Ack | TryFailed | Committed | SourcesFinished | Progress | Failed

FRAME_BYTES_MAX: Final = 256 * 1024 * 1024
"""Largest control frame; checked before anything is allocated for it."""

_encoder = msgspec.json.Encoder()
_to_worker: msgspec.json.Decoder[ToWorker] = msgspec.json.Decoder(ToWorker)
_to_coordinator: msgspec.json.Decoder[ToCoordinator] = msgspec.json.Decoder(ToCoordinator)


def encode(message: ToWorker | ToCoordinator) -> bytes:
    """Return the JSON form of a message."""
    return _encoder.encode(message)


def decode_to_worker(data: bytes) -> ToWorker:
    """Parse a message to a worker. Raises `ProtocolError`."""
    try:
        return _to_worker.decode(data)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"control message to a worker cannot be read: {error}") from error


def decode_to_coordinator(data: bytes) -> ToCoordinator:
    """Parse a message from a worker. Raises `ProtocolError`."""
    try:
        return _to_coordinator.decode(data)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"control message from a worker cannot be read: {error}") from error
