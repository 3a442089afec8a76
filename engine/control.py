"""A worker's end of the control channel."""

from __future__ import annotations

import os
import queue
import threading
from typing import Final

from .messages import Setup, ToCoordinator, ToWorker, decode_to_worker, encode
from .wire import FrameSocket

SETUP_TIMEOUT_S: Final = 60.0
"""How long the first message may take; the coordinator sends it right after it has prepared sources and sinks."""


class Control:
    """A thread that receives into a queue, and a `send` for any thread.

    A worker without its coordinator ends at once: nothing of it can be decided any more.
    """

    def __init__(self, frames: FrameSocket) -> None:
        self._frames = frames
        self.messages: queue.SimpleQueue[ToWorker] = queue.SimpleQueue()
        self.wake = threading.Event()
        threading.Thread(target=self._receive, name="control", daemon=True).start()

    def setup(self) -> Setup:
        """Wait for the first message."""
        message = self.messages.get(timeout=SETUP_TIMEOUT_S)
        assert isinstance(message, Setup)
        return message

    def send(self, message: ToCoordinator) -> None:
        """Send a message."""
        try:
            self._frames.send(encode(message))
        except OSError:
            os._exit(1)

    def _receive(self) -> None:
        while True:
            frames = self._frames.receive_blocking()
            if frames is None:
                os._exit(1)
            for frame in frames:
                self.messages.put(decode_to_worker(frame))
            self.wake.set()
