"""A proxy before an HTTP server that loses answers, breaks them off, or gives its own, as a test has queued them."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

ANSWER_TIMEOUT_S: Final = 60.0


@dataclass(frozen=True)
class Fault:
    """What happens to one request. `reaches` tells whether the server behind gets it."""

    method: str
    reaches: bool
    status: int = 0
    code: str = ""
    keep_bytes: int = 0
    again_s: float | None = None


def lost_answer(method: str) -> Fault:
    """The server does it, but its answer never arrives."""
    return Fault(method, reaches=True)


def lost_request(method: str) -> Fault:
    """The request never arrives."""
    return Fault(method, reaches=False)


def broken_body(method: str, keep_bytes: int) -> Fault:
    """The answer's body ends early."""
    return Fault(method, reaches=True, keep_bytes=keep_bytes)


def error(method: str, status: int, code: str) -> Fault:
    """The answer is an S3 error."""
    return Fault(method, reaches=False, status=status, code=code)


def again_later(method: str, after_s: float) -> Fault:
    """The server does it, and gets the very same request once more after a while."""
    return Fault(method, reaches=True, again_s=after_s)


class FaultyProxy:
    """Forwards to `target` (host, port); each request of a fault's method takes that fault off the queue."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.faults: deque[Fault] = deque()
        self.requests: list[str] = []
        self.expectations: list[str] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.handle(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
                pass

        for method in ("GET", "PUT", "POST", "HEAD", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.handle_any)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Serve one request, with the next fault meant for its method."""
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        with self._lock:
            self.requests.append(request.command)
            self.expectations.extend(request.headers.get_all("Expect", []))
            fault = next((f for f in self.faults if f.method == request.command), None)
            if fault is not None:
                self.faults.remove(fault)
        try:
            status, headers, data = self._forward(request, body) if fault is None or fault.reaches else (0, [], b"")
        except (OSError, http.client.HTTPException):
            self._cut(request)
            return
        if fault is not None and fault.status:
            status, headers = fault.status, [("Content-Type", "application/xml")]
            data = f"<Error><Code>{fault.code}</Code><Message>injected</Message></Error>".encode()
        elif fault is not None and fault.again_s is not None:
            threading.Timer(fault.again_s, self._again, (request, body)).start()
        elif fault is not None and not fault.keep_bytes:
            self._cut(request)
            return
        with contextlib.suppress(OSError):  # a client that did not wait
            kept = data[: fault.keep_bytes] if fault is not None and fault.keep_bytes else data
            self._answer(request, status, headers, kept, len(data))
        if fault is not None and fault.keep_bytes:
            self._cut(request)

    def _answer(
        self, request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], data: bytes, size: int
    ) -> None:
        request.send_response(status)
        for name, value in headers:
            request.send_header(name, value)
        request.send_header("Content-Length", str(size))
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.target, timeout=ANSWER_TIMEOUT_S)
        try:
            connection.putrequest(request.command, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            data = answer.read()
            hidden = {"content-length", "transfer-encoding", "connection"}
            return answer.status, [(n, v) for n, v in answer.getheaders() if n.lower() not in hidden], data
        finally:
            connection.close()

    def _again(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        # Nobody waits for this answer, nor minds that the server is away.
        with contextlib.suppress(OSError, http.client.HTTPException):
            self._forward(request, body)

    def _cut(self, request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        with contextlib.suppress(OSError):  # the client may have gone first
            request.wfile.flush()
            request.connection.shutdown(socket.SHUT_RDWR)
