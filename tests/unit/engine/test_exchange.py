"""The exchange keeps order, bounds what is in flight by credits, and lets nobody in without the token."""

from __future__ import annotations

import queue
import socket
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tidegate.engine.errors import ProtocolError, WorkerLostError
from tidegate.engine.exchange import HEADER, HELLO, Exchange, Incoming, Kind

TOKEN = "t" * 64
WINDOW = 1_000
WAIT_S = 10.0
Got = tuple[int, Kind, int, bytes, Callable[[int], None]]


class Pair:
    """Two workers' exchanges in one process, over real sockets."""

    def __init__(self, folder: Path) -> None:
        self.paths = [str(folder / f"{number}.sock") for number in range(2)]
        self.got: list[queue.Queue[Got]] = [queue.Queue(), queue.Queue()]
        self.lost: queue.Queue[Exception] = queue.Queue()
        listeners = []
        for path in self.paths:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(path)
            listener.listen()
            listeners.append(listener)
        self.ends = [
            Exchange(number, listener, TOKEN, WINDOW, self._deliver(number), self.lost.put)
            for number, listener in enumerate(listeners)
        ]
        for end in self.ends:
            end.connect(self.paths)

    def _deliver(self, number: int) -> Callable[[int, Kind, int, bytes, Callable[[int], None]], None]:
        return lambda *element: self.got[number].put(element)

    def rows(self, number: int) -> Got:
        """The next element that is no credit."""
        while True:
            element = self.got[number].get(timeout=WAIT_S)
            if element[1] is not Kind.CREDIT:
                return element


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connected pair."""
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(Path(folder))
        yield pair
        for end in pair.ends:
            end.close()


def test_elements_of_a_channel_arrive_in_the_order_they_were_sent(pair: Pair) -> None:
    channel = pair.ends[0].outgoing[1]
    sent = [(Kind.ROWS, 0, b"a" * 10), (Kind.WATERMARK, 0, b"w"), (Kind.ROWS, 3, b""), (Kind.BARRIER, 0, b"b")]
    for kind, port, payload in sent:
        channel.send(kind, port, payload)
    assert [pair.rows(1)[:4] for _ in sent] == [(0, kind, port, payload) for kind, port, payload in sent]


def test_a_sender_without_credit_waits_until_its_rows_have_been_processed(pair: Pair) -> None:
    channel = pair.ends[0].outgoing[1]
    channel.send(Kind.ROWS, 0, b"x" * WINDOW)
    assert not channel.has_credit(0)
    assert channel.has_credit(1), "another port has credit of its own"
    give = pair.rows(1)[4]
    give(WINDOW)
    assert pair.got[0].get(timeout=WAIT_S)[1] is Kind.CREDIT
    assert channel.has_credit(0)


def test_barriers_and_watermarks_need_no_credit(pair: Pair) -> None:
    channel = pair.ends[0].outgoing[1]
    channel.send(Kind.ROWS, 0, b"x" * WINDOW)
    channel.send(Kind.BARRIER, 0, b"b")
    assert [pair.rows(1)[1] for _ in range(2)] == [Kind.ROWS, Kind.BARRIER]


def test_a_stranger_without_the_token_is_refused_and_nobody_else_is_affected(pair: Pair) -> None:
    stranger = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stranger.settimeout(WAIT_S)
    stranger.connect(pair.paths[1])
    stranger.sendall(HELLO.pack(b"wrong" * 10, 0) + HEADER.pack(3, Kind.ROWS, 0, 0) + b"bad")
    assert stranger.recv(1) == b""
    pair.ends[0].outgoing[1].send(Kind.ROWS, 0, b"good")
    assert pair.rows(1)[3] == b"good"
    assert pair.lost.empty()


def test_the_loss_of_a_peer_is_reported(pair: Pair) -> None:
    for channel in pair.ends[0].outgoing.values():
        channel.socket.shutdown(socket.SHUT_RDWR)
    assert isinstance(pair.lost.get(timeout=WAIT_S), WorkerLostError)


def incoming(data: bytes) -> Incoming:
    """A receiving end with bytes in its buffer."""
    ours, theirs = socket.socketpair()
    theirs.close()
    end = Incoming(ours)
    end.buffer += data
    return end


def test_a_gap_in_the_sequence_is_an_error() -> None:
    end = incoming(HEADER.pack(0, Kind.ROWS, 0, 0) + HEADER.pack(0, Kind.ROWS, 0, 2))
    with pytest.raises(ProtocolError, match=r"frame 1 .* is missing, got 2"):
        end.frames()


@pytest.mark.parametrize("header", [struct.pack("<IBHI", 2**31, 1, 0, 0), struct.pack("<IBHI", 1, 99, 0, 0)])
def test_a_malformed_header_is_refused_before_anything_is_allocated(header: bytes) -> None:
    with pytest.raises(ProtocolError, match="malformed"):
        incoming(header).frames()


def test_a_frame_that_is_not_complete_yet_waits_in_the_buffer() -> None:
    whole = HEADER.pack(3, Kind.ROWS, 7, 0) + b"abc"
    for cut in range(len(whole)):
        end = incoming(whole[:cut])
        assert end.frames() == []
        end.buffer += whole[cut:]
        assert end.frames() == [(Kind.ROWS, 7, b"abc")]
