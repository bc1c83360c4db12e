"""The rows of ``blnk.api_keys`` and the ways they are found. Knows no hashing and no HTTP."""

from __future__ import annotations

import dataclasses
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from blnkctl.sandbox.gotime import ZERO_MICROS


@dataclass(frozen=True)
class KeyRow:
    """One row as the database holds it; times in microseconds since 1970.

    ``key`` is what the version that made the row stored: the plain text, a SHA-256 or a bcrypt hash.
    """

    api_key_id: str
    key: str = dataclasses.field(repr=False)
    name: str
    owner_id: str
    scopes: tuple[str, ...]
    expires_at: int
    created_at: int
    key_prefix: str | None = dataclasses.field(default=None, repr=False)
    last_used_at: int = ZERO_MICROS
    is_revoked: bool = False
    revoked_at: int | None = None


class Journal(Protocol):
    """Where changes go so that they outlive the process."""

    def added(self, rows: Iterable[KeyRow]) -> None: ...

    def revoked(self, api_key_id: str, at: int) -> None: ...

    def used(self, api_key_id: str, at: int) -> None: ...


class Rows:
    """All rows, indexed as the server looks them up; safe to share between threads."""

    def __init__(self, rows: Iterable[KeyRow] = (), journal: Journal | None = None) -> None:
        self._lock = threading.RLock()
        self._journal = journal
        self._by_id: dict[str, KeyRow] = {}
        self._by_key: dict[str, str] = {}
        self._by_prefix: defaultdict[str, list[str]] = defaultdict(list)
        self._by_owner: defaultdict[str, list[str]] = defaultdict(list)
        for row in rows:
            self._index(row)

    def add(self, *rows: KeyRow) -> None:
        """Insert rows; raise ValueError where an id or a stored key is already there."""
        with self._lock:
            for row in rows:
                if row.api_key_id in self._by_id or row.key in self._by_key:
                    raise ValueError(f"there is a row {row.api_key_id} already, or one with the same key")
                self._index(row)
            if self._journal is not None:
                self._journal.added(rows)

    def fill(self, rows: Iterable[KeyRow]) -> int:
        """Insert the rows whose id is not there; the others stay as they are. Return how many were inserted."""
        with self._lock:
            new = [row for row in rows if row.api_key_id not in self._by_id]
            self.add(*new)
        return len(new)

    def revoke(self, api_key_id: str, at: int) -> None:
        """Mark a row as revoked; a second time moves ``revoked_at``, as on the server."""
        with self._lock:
            self._change(api_key_id, is_revoked=True, revoked_at=at)
            if self._journal is not None:
                self._journal.revoked(api_key_id, at)

    def use(self, api_key_id: str, at: int) -> None:
        with self._lock:
            self._change(api_key_id, last_used_at=at)
            if self._journal is not None:
                self._journal.used(api_key_id, at)

    def get(self, api_key_id: str) -> KeyRow | None:
        with self._lock:
            return self._by_id.get(api_key_id)

    def with_key(self, stored: str) -> list[KeyRow]:
        with self._lock:
            found = self._by_key.get(stored)
            return [] if found is None else [self._by_id[found]]

    def with_prefix(self, prefix: str) -> list[KeyRow]:
        with self._lock:
            return [self._by_id[name] for name in self._by_prefix.get(prefix, ())]

    def of_owner(self, owner: str) -> list[KeyRow]:
        """Return an owner's rows, newest first."""
        with self._lock:
            rows = [self._by_id[name] for name in reversed(self._by_owner.get(owner, ()))]
        return sorted(rows, key=lambda row: -row.created_at)

    def _index(self, row: KeyRow) -> None:
        self._by_id[row.api_key_id] = row
        self._by_key[row.key] = row.api_key_id
        self._by_owner[row.owner_id].append(row.api_key_id)
        if row.key_prefix is not None:
            self._by_prefix[row.key_prefix].append(row.api_key_id)

    def _change(self, api_key_id: str, **changes: int | bool) -> None:
        self._by_id[api_key_id] = dataclasses.replace(self._by_id[api_key_id], **changes)  # type: ignore[arg-type]
