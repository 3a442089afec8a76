"""The exchange: ordered, credit-bounded channels of Arrow IPC frames between the workers of one attempt.

Every ordered pair of workers has one stream connection; data flows one way on it, credits flow back. A frame is

    length u32 | kind u8 | port u16 | sequence u32 | payload

with the payload's length in `length`. Rows, watermarks and barriers of one channel share the stream, so their order is
kept. Sequence numbers count from 0 per connection; a gap ends the attempt. A sender may send rows to a port while its
credit for that port is above zero; the receiver gives credit back when a frame has been processed, so unprocessed bytes
per channel and port stay below the window plus one frame. Credit is counted by port because a port may have to send to
another one before it can go on: with one count for all, two workers could wait for each other for ever. A connection
begins with a token that only the coordinator and its workers know.
"""

from __future__ import annotations

import functools
import hmac
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from enum import IntEnum
from typing import Final

from .errors import ProtocolError, WorkerLostError

HEADER: Final = struct.Struct("<IBHI")
HELLO: Final = struct.Struct("<64sI")
PAYLOAD_BYTES_MAX: Final = 256 * 1024 * 1024
SEND_TIMEOUT_S: Final = 60.0
"""How long a peer may leave its socket unread; credits make sure that a live one has room."""
CONNECT_TIMEOUT_S: Final = 20.0


class Kind(IntEnum):
    """What a frame carries."""

    ROWS = 1
    WATERMARK = 2
    BARRIER = 3
    CREDIT = 4


class Outgoing:
    """The sending end of the channel to another worker. Used by the data thread; the receiver thread brings credits."""

    def __init__(self, sock: socket.socket, peer: int, window: int) -> None:
        self.socket = sock
        self.peer = peer
        self._window = window
        self._used: dict[int, int] = {}
        self._lock = threading.Lock()
        self._sequence = 0
        self.buffer = bytearray()

    def has_credit(self, port: int) -> bool:
        """Whether rows may be sent to a port now."""
        return self._used.get(port, 0) < self._window

    def grant(self, port: int, size: int) -> None:
        """Take credit back from the receiver."""
        with self._lock:
            self._used[port] = self._used.get(port, 0) - size

    def send(self, kind: Kind, port: int, payload: bytes | memoryview) -> None:
        """Send one frame. Raises `WorkerLostError` when the peer is gone."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise ProtocolError(f"an exchange frame of {len(payload)} bytes is over the limit of {PAYLOAD_BYTES_MAX}")
        if kind is Kind.ROWS:
            with self._lock:
                self._used[port] = self._used.get(port, 0) + len(payload)
        header = HEADER.pack(len(payload), kind, port, self._sequence)
        self._sequence += 1
        try:
            self.socket.sendall(header)
            self.socket.sendall(payload)
        except OSError as error:
            raise WorkerLostError(f"worker {self.peer} is gone from the exchange: {error}") from error


class Incoming:
    """The receiving end of the channel from one other worker."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.peer: int | None = None
        self.buffer = bytearray()
        self._sequence = 0
        self._lock = threading.Lock()

    def give(self, port: int, size: int) -> None:
        """Give credit back after a frame of `size` bytes has been processed by a port."""
        with self._lock:
            try:
                self.socket.sendall(HEADER.pack(4, Kind.CREDIT, port, 0) + struct.pack("<I", size))
            except OSError:
                return  # the reader of this connection reports the loss

    def frames(self) -> list[tuple[Kind, int, bytes]]:
        """Take the complete frames out of the buffer. Raises `ProtocolError` for a gap or a malformed frame."""
        found = []
        start = 0
        while len(self.buffer) - start >= HEADER.size:
            size, kind, port, sequence = HEADER.unpack_from(self.buffer, start)
            if size > PAYLOAD_BYTES_MAX or kind not in {Kind.ROWS, Kind.WATERMARK, Kind.BARRIER}:
                raise ProtocolError(f"exchange frame from worker {self.peer} is malformed: kind {kind}, {size} bytes")
            if len(self.buffer) - start < HEADER.size + size:
                break
            if sequence != self._sequence:
                raise ProtocolError(
                    f"exchange frame {self._sequence} from worker {self.peer} is missing, got {sequence}"
                )
            self._sequence += 1
            payload = bytes(memoryview(self.buffer)[start + HEADER.size : start + HEADER.size + size])
            found.append((Kind(kind), port, payload))
            start += HEADER.size + size
        if start:
            del self.buffer[:start]
        return found


Deliver = Callable[[int, Kind, int, bytes, Callable[[int], None]], None]
"""(sending worker, kind, port, payload, give credit back) -> None; called in the receiver thread."""


class Exchange:
    """All channels of one worker, with one thread that receives."""

    def __init__(
        self,
        subtask: int,
        listener: socket.socket,
        token: str,
        window: int,
        deliver: Deliver,
        lost: Callable[[Exception], None],
    ) -> None:
        self._subtask = subtask
        self._listener = listener
        self._token = token.encode()
        self._window = window
        self._deliver = deliver
        self._lost = lost
        self._selector = selectors.DefaultSelector()
        self._closing = threading.Event()
        self.outgoing: dict[int, Outgoing] = {}
        self._thread = threading.Thread(target=self._receive, name="exchange", daemon=True)

    def connect(self, peers: list[str]) -> None:
        """Connect to every other worker's socket path (in worker order) and start receiving."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        for index, path in enumerate(peers):
            if index == self._subtask:
                continue
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(CONNECT_TIMEOUT_S)
            try:
                sock.connect(path)
                sock.sendall(HELLO.pack(self._token, self._subtask))
            except OSError as error:
                raise WorkerLostError(f"worker {index} does not accept exchange connections: {error}") from error
            sock.settimeout(SEND_TIMEOUT_S)
            channel = Outgoing(sock, index, self._window)
            self.outgoing[index] = channel
            self._selector.register(sock, selectors.EVENT_READ, channel)
        self._thread.start()

    def close(self) -> None:
        """Stop receiving and close all connections."""
        self._closing.set()
        for channel in self.outgoing.values():
            channel.socket.close()
        self._listener.close()

    def _receive(self) -> None:
        try:
            while not self._closing.is_set():
                for key, _ in self._selector.select(timeout=1.0):
                    if key.data is None:
                        self._accept()
                    elif isinstance(key.data, Outgoing):
                        self._credits(key.data)
                    else:
                        self._rows(key.data)
        except (OSError, ProtocolError, WorkerLostError, ValueError) as error:
            if not self._closing.is_set():
                self._lost(error)

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.settimeout(SEND_TIMEOUT_S)
        self._selector.register(sock, selectors.EVENT_READ, Incoming(sock))

    def _credits(self, channel: Outgoing) -> None:
        data = channel.socket.recv(1 << 16)
        if not data:
            raise WorkerLostError(f"worker {channel.peer} closed its exchange connection")
        channel.buffer += data
        size = HEADER.size + 4
        whole = len(channel.buffer) // size * size
        for start in range(0, whole, size):
            _, _, port, _ = HEADER.unpack_from(channel.buffer, start)
            channel.grant(port, struct.unpack_from("<I", channel.buffer, start + HEADER.size)[0])
        del channel.buffer[:whole]
        if whole:
            self._deliver(channel.peer, Kind.CREDIT, 0, b"", _nothing)

    def _rows(self, channel: Incoming) -> None:
        data = channel.socket.recv(1 << 20)
        if not data:
            self._selector.unregister(channel.socket)
            if channel.peer is not None:
                raise WorkerLostError(f"worker {channel.peer} closed its exchange connection")
            channel.socket.close()
            return
        channel.buffer += data
        if channel.peer is None and not self._greet(channel):
            return
        for kind, port, payload in channel.frames():
            self._deliver(int(channel.peer or 0), kind, port, payload, functools.partial(channel.give, port))

    def _greet(self, channel: Incoming) -> bool:
        if len(channel.buffer) < HELLO.size:
            return False
        token, peer = HELLO.unpack_from(channel.buffer)
        if not hmac.compare_digest(token, self._token.ljust(64, b"\0")):
            # Somebody who is not of this attempt: refuse it, nobody else is affected.
            self._selector.unregister(channel.socket)
            channel.socket.close()
            return False
        del channel.buffer[: HELLO.size]
        channel.peer = peer
        return True


def _nothing(_size: int) -> None:
    """Credit frames have no credit to give back."""
