"""HTTP/1.1 over sockets: reads requests, frames answers, ends connections. Knows no keys and no Core."""

from __future__ import annotations

import re
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from blnkctl.sandbox.replies import Response, bad_request

Answer = Callable[[str, str, Mapping[str, str], bytes, str], Response]


class Server(ThreadingHTTPServer):
    """A server on loopback that can be stopped while clients keep their connections open."""

    daemon_threads = False  # so that closing waits for every thread
    request_queue_size = 128

    def __init__(self, port: int, answer: Answer) -> None:
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        self.answer = answer
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End every connection, idle or not."""
        with self._open_lock:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:  # the client was first
                    continue

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report a fault of the sandbox; a client that hangs up is none."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without this a kept connection loses 40 ms with every further request.
    disable_nagle_algorithm = True
    server: Server

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Take every method, known or not, to the same place."""
        if name.startswith("do_"):
            return self._respond
        raise AttributeError(name)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a log line could carry a key."""

    def _respond(self) -> None:
        try:
            body = self._read_body()
        except ValueError:  # chunks that are none
            self._send(bad_request())
            return
        # Two keys in one request: like Go, take the first.
        headers = {name.lower(): value for name, value in reversed(self.headers.items())}
        # Not self.path, which folds leading slashes.
        target = self.requestline.split()[1]
        self._send(self.server.answer(self.command, target, headers, body, self.client_address[0]))

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return b"".join(iter(self._read_chunk, b""))
        length = self.headers.get("Content-Length", "0")
        return self.rfile.read(int(length)) if re.fullmatch("[0-9]+", length) else b""

    def _read_chunk(self) -> bytes:
        size = int(self.rfile.readline().split(b";")[0].strip() or b"0", 16)
        chunk = self.rfile.read(size)
        while self.rfile.readline().strip():
            pass  # trailers, which nothing reads
        return chunk

    def _send(self, answer: Response) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.send_header("Date", self.date_time_string())
        if answer.header("Connection") is not None:
            self.close_connection = True
        elif self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(self._framed(answer))

    def _framed(self, answer: Response) -> bytes:
        if answer.header("Transfer-Encoding") is None or not answer.body:
            return answer.body
        return b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer.body), answer.body)
