"""The two caches of validated keys: Redis, shared, and each process's own memory. Knows no HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable

from blnkctl.sandbox.rows import KeyRow

Monotonic = Callable[[], float]

REDIS_SECONDS = 300.0
# The library adds up to a tenth to its minute. Here it is always the most, so that a client that
# waits too short a time is found out.
MEMORY_SECONDS = 66.0


class ExpiringMap:
    """Rows by name, each for a fixed time."""

    def __init__(self, seconds: float, monotonic: Monotonic) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[float, KeyRow]] = {}

    def get(self, name: str) -> KeyRow | None:
        with self._lock:
            until, row = self._entries.get(name, (0.0, None))
            if row is not None and self._monotonic() >= until:
                del self._entries[name]
                return None
            return row

    def set(self, name: str, row: KeyRow) -> None:
        with self._lock:
            self._entries[name] = (self._monotonic() + self._seconds, row)

    def delete(self, name: str) -> None:
        with self._lock:
            self._entries.pop(name, None)


class KeyCache:
    """What one server process sees: its memory first, then the Redis that all share.

    A row is cached as it was found; a revoke elsewhere does not reach this process's memory.
    """

    def __init__(self, redis: ExpiringMap, monotonic: Monotonic) -> None:
        self._redis = redis
        self._memory = ExpiringMap(MEMORY_SECONDS, monotonic)

    def get(self, name: str) -> KeyRow | None:
        row = self._memory.get(name)
        if row is None:
            row = self._redis.get(name)
            if row is not None:
                self._memory.set(name, row)
        return row

    def set(self, name: str, row: KeyRow) -> None:
        self._memory.set(name, row)
        self._redis.set(name, row)

    def delete(self, name: str) -> None:
        self._memory.delete(name)
        self._redis.delete(name)
