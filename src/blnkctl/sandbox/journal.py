"""The data file: JSON lines, one per change, appended. Knows no versions, no hashing, no HTTP.

The first line names the format. A last line that was cut short, as by a crash, is dropped; anything
else that cannot be read refuses the whole file and leaves it alone.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from blnkctl.sandbox.rows import KeyRow

_KIND = "blnkctl-sandbox"
_VERSION = 1
_HEADER = {"kind": _KIND, "version": _VERSION}
_FIELDS = {field.name for field in dataclasses.fields(KeyRow)}


class JournalFile:
    """An open data file that no other sandbox can open."""

    def __init__(self, path: Path) -> None:
        """Open or create the file; raise ValueError with a sentence where that cannot be done."""
        self._path = path
        self._rows: dict[str, KeyRow] = {}
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ValueError(f"the data file {path} cannot be opened: {error.strerror}") from error
        try:
            self._claim()
            self._load()
        except BaseException:
            os.close(self._file)
            raise

    @property
    def rows(self) -> Iterable[KeyRow]:
        """The rows as the file held them when it was opened."""
        return self._rows.values()

    def close(self) -> None:
        """Let go of the file; a change that comes later is an OSError."""
        os.close(self._file)
        self._file = -1

    def added(self, rows: Iterable[KeyRow]) -> None:
        self._append({"event": "added", "row": dataclasses.asdict(row)} for row in rows)

    def revoked(self, api_key_id: str, at: int) -> None:
        self._append([{"event": "revoked", "id": api_key_id, "at": at}])

    def used(self, api_key_id: str, at: int) -> None:
        self._append([{"event": "used", "id": api_key_id, "at": at}])

    def _claim(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"the data file {self._path} is in use by another sandbox") from error

    def _load(self) -> None:
        whole, tail = _split(self._read())
        if not whole and not _HEADER_TEXT.startswith(tail):
            raise self._unreadable(1, "it was not written by the sandbox")
        for number, line in enumerate(whole, start=1):
            self._replay(number, line)
        if tail:
            os.ftruncate(self._file, sum(len(line) + 1 for line in whole))
        if not whole:
            self._append([_HEADER])
        os.fchmod(self._file, 0o600)  # rows made before 0.12 are the keys themselves

    def _read(self) -> bytes:
        with os.fdopen(os.dup(self._file), "rb") as file:
            return file.read()

    def _replay(self, number: int, line: bytes) -> None:
        try:
            event = json.loads(line)
            if number == 1:
                self._check_header(event)
            else:
                self._apply(event)
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            reason = "it was not written by the sandbox" if number == 1 else "the line makes no sense"
            raise self._unreadable(number, reason) from error

    def _check_header(self, header: dict[str, object]) -> None:
        version = header["version"]
        if header["kind"] != _KIND or not isinstance(version, int):
            raise KeyError("kind")
        if version > _VERSION:
            raise ValueError(
                f"the data file {self._path} was written by a newer blnkctl (format {version}, "
                f"known is {_VERSION}); it was left as it is"
            )

    def _apply(self, event: dict[str, object]) -> None:
        kind = event["event"]
        if kind == "added":
            row = _row(event["row"])
            self._rows[row.api_key_id] = row
            return
        row, at = self._rows[str(event["id"])], event["at"]
        if not isinstance(at, int) or kind not in ("revoked", "used"):
            raise KeyError("event")
        if kind == "revoked":
            row = dataclasses.replace(row, is_revoked=True, revoked_at=at)
        else:
            row = dataclasses.replace(row, last_used_at=at)
        self._rows[row.api_key_id] = row

    def _unreadable(self, number: int, reason: str) -> ValueError:
        return ValueError(
            f"the data file {self._path} cannot be read at line {number}: {reason}; it was left as it is"
        )

    def _append(self, events: Iterable[object]) -> None:
        lines = b"".join(json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in events)
        # One write for all lines, so that a crash tears the last one at most.
        view = memoryview(lines)
        while view:
            view = view[os.write(self._file, view) :]


_HEADER_TEXT = json.dumps(_HEADER, separators=(",", ":")).encode()


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    """Separate the finished lines from what follows the last line feed."""
    *whole, tail = data.split(b"\n")
    return whole, tail


def _row(fields: object) -> KeyRow:
    if not isinstance(fields, dict) or set(fields) != _FIELDS:
        raise TypeError("row")
    row = KeyRow(**{**fields, "scopes": tuple(_texts(fields["scopes"]))})
    numbers = (row.expires_at, row.created_at, row.last_used_at)
    if not all(isinstance(number, int) for number in numbers):
        raise TypeError("time")
    return row


def _texts(values: object) -> Iterator[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("scopes")
    return iter(values)
