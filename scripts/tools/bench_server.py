"""A sandbox for the bench, as a process of its own: its workers are few and slow, or its limiter is, and it counts.

`bench_server.py KEYS.csv [--workers N] [--limit RPS:BURST] [--strip]` prints its URL; `GET /bench` tells what it
answered: when each request to `/api-keys` that was let through was answered, and how many were not.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from blnkctl.sandbox import Emulator, Response, SandboxOptions, parse_rate_limit
from blnkctl.sandbox.wire import Server

ADMIN_KEY = "admin-key-of-the-bench"
WORK = 0.05
_LIMITER = (
    "x-rate-limit-limit",
    "x-rate-limit-duration",
    "ratelimit-limit",
    "ratelimit-reset",
    "ratelimit-remaining",
)


class CountingServer:
    """Answers as the sandbox does. A create, and whatever comes with an API key, occupies a worker for 50 ms."""

    def __init__(self, emulator: Emulator, workers: int | None, *, strips: bool) -> None:
        self._emulator = emulator
        self._workers = None if workers is None else threading.Semaphore(workers)
        self._strips = strips
        self._lock = threading.Lock()
        self._let_through: list[float] = []
        self._created: list[float] = []
        self._refused = 0

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: bytes, client: str) -> Response:
        """Answer one request."""
        if target == "/bench":
            return self._tell()
        if self._is_work(method, headers) and self._workers is not None:
            with self._workers:
                time.sleep(WORK)
                answer = self._emulator.answer(method, target, headers, body, client)
        else:
            answer = self._emulator.answer(method, target, headers, body, client)
        self._count(target, answer)
        return self._stripped(answer) if self._strips else answer

    def _is_work(self, method: str, headers: Mapping[str, str]) -> bool:
        return method == "POST" or headers.get("x-blnk-key", ADMIN_KEY) != ADMIN_KEY

    def _count(self, target: str, answer: Response) -> None:
        with self._lock:
            if answer.status == 429:
                self._refused += 1
            elif target.partition("?")[0] == "/api-keys":
                self._let_through.append(time.monotonic())
                if answer.status == 201:
                    self._created.append(time.monotonic())

    def _stripped(self, answer: Response) -> Response:
        kept = tuple(header for header in answer.headers if header[0].lower() not in _LIMITER)
        return Response(answer.status, kept, answer.body)

    def _tell(self) -> Response:
        with self._lock:
            told = {"let_through": self._let_through, "created": self._created, "refused": self._refused}
        body = json.dumps(told).encode()
        return Response(200, (("Content-Type", "application/json"), ("Content-Length", str(len(body)))), body)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("keys", type=Path)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--limit")
    parser.add_argument("--strip", action="store_true")
    given = parser.parse_args()
    limit = None if given.limit is None else parse_rate_limit(given.limit)
    options = SandboxOptions(admin_key=ADMIN_KEY, fast=True, load_csv=given.keys, rate_limit=limit)
    counting = CountingServer(Emulator(options), given.workers, strips=given.strip)
    server = Server(0, counting.answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
