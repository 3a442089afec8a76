"""Length-prefixed frames over a stream socket, for control messages."""

from __future__ import annotations

import select
import socket
import struct
import threading
from typing import Final

from .errors import ProtocolError
from .messages import FRAME_BYTES_MAX

_LENGTH: Final = struct.Struct("<I")
SEND_TIMEOUT_S: Final = 60.0
"""How long a peer may leave a control frame unread before it counts as lost."""
RECEIVE_WAIT_S: Final = 1.0


class FrameSocket:
    """Sends and receives whole frames. Any thread may send; one thread receives."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._lock = threading.Lock()
        self._buffer = bytearray()

    def fileno(self) -> int:
        """Descriptor, for selectors."""
        return self._socket.fileno()

    def send(self, payload: bytes) -> None:
        """Send one frame. Raises `OSError` (or `TimeoutError`) when the peer is gone or does not read."""
        if len(payload) > FRAME_BYTES_MAX:
            raise ProtocolError(f"control message of {len(payload)} bytes is over the limit of {FRAME_BYTES_MAX}")
        with self._lock:
            self._socket.settimeout(SEND_TIMEOUT_S)
            self._socket.sendall(_LENGTH.pack(len(payload)) + payload)

    def receive_ready(self) -> list[bytes] | None:
        """Read what is there without waiting for more; return complete frames, or None at the end of the stream."""
        return self._receive(socket.MSG_DONTWAIT)

    def receive_blocking(self) -> list[bytes] | None:
        """Wait for something to read; return complete frames (perhaps none), or None at the end of the stream."""
        if not select.select([self._socket], [], [], RECEIVE_WAIT_S)[0]:
            return []
        return self._receive(socket.MSG_DONTWAIT)

    def _receive(self, flags: int) -> list[bytes] | None:
        try:
            data = self._socket.recv(1 << 20, flags)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        self._buffer += data
        frames = []
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > FRAME_BYTES_MAX:
                raise ProtocolError(f"a control frame claims {size} bytes, the limit is {FRAME_BYTES_MAX}")
            if len(self._buffer) < _LENGTH.size + size:
                break
            frames.append(bytes(self._buffer[_LENGTH.size : _LENGTH.size + size]))
            del self._buffer[: _LENGTH.size + size]
        return frames

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
