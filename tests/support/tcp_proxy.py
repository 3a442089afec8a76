"""A TCP proxy on loopback that cuts, delays, holds or breaks the connections which go through it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Final

from services.processes import free_port

START_TIMEOUT_S: Final = 10.0
CHUNK: Final = 65_536
# Closing with a linger of zero sends a reset instead of an orderly end.
RESET: Final = struct.pack("ii", 1, 0)


class TcpProxy:
    """Forwards from `port` to `target` on loopback. Faults last until `heal`; any thread may ask for them."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay_s = 0.0
        self._left: int | None = None
        self._refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise RuntimeError(f"the proxy on port {self.port} did not start")

    # Faults.

    def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        self._ask(self._cut)

    def hold(self) -> None:
        """Let nothing through, without closing anything: both sides see a peer that is silent."""
        self._ask(self._flowing.clear)

    def delay(self, seconds: float) -> None:
        """Let every piece of up to 64 KiB wait before it goes on."""
        self._ask(lambda: setattr(self, "_delay_s", seconds))

    def break_after(self, size: int) -> None:
        """Reset the connection over which the next `size` bytes have gone, in the middle of whatever it says."""
        self._ask(lambda: setattr(self, "_left", size))

    def heal(self) -> None:
        """End all faults."""
        self._ask(self._heal)

    def close(self) -> None:
        """Stop; connections are reset."""
        self._ask(self._cut)
        self._ask(self._loop.stop)
        self._thread.join(START_TIMEOUT_S)

    # In the proxy's own thread.

    def _ask(self, action: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(action)

    def _run(self) -> None:
        async def serve() -> None:
            await asyncio.start_server(self._connected, "127.0.0.1", self.port)
            self._started.set()

        self._loop.run_until_complete(serve())
        self._loop.run_forever()

    def _cut(self) -> None:
        self._refusing = True
        for writer in list(self._writers):
            _reset(writer)

    def _heal(self) -> None:
        self._refusing, self._delay_s, self._left = False, 0.0, None
        self._flowing.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            _reset(writer)
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _reset(writer)
            return
        both = {writer, far_writer}
        self._writers |= both
        try:
            await asyncio.gather(
                self._pump(reader, far_writer, writer), self._pump(far_reader, writer, far_writer)
            )  # fmt: skip
        except OSError:
            for one in both:
                _reset(one)
        finally:
            self._writers -= both

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(CHUNK):
            await self._flowing.wait()
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if self._left is not None and len(data) >= self._left:
                writer.write(data[: self._left])
                self._left = None
                await writer.drain()
                _reset(writer)
                _reset(back)
                return
            if self._left is not None:
                self._left -= len(data)
            writer.write(data)
            await writer.drain()
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
