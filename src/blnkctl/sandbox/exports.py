"""Reads rows from an export of ``blnk.api_keys``, a CSV file without secrets. Knows no versions and no data file.

What a row's scheme would have stored is invented: it has the right shape, and no key fits it that anybody knows.
"""

from __future__ import annotations

import base64
import csv
import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

from blnkctl.sandbox import gotime
from blnkctl.sandbox.rows import KeyRow
from blnkctl.sandbox.schemes import scheme_named

COLUMNS = (
    "api_key_id",
    "owner",
    "name",
    "scopes",
    "expires_at",
    "created_at",
    "last_used_at",
    "revoked_at",
    "storage_scheme",
)
_SCHEMES = ("plaintext", "sha256", "bcrypt", "unknown")
_ID = re.compile(r"api_key_[A-Za-z0-9_-]{1,100}", re.ASCII)
_LONGEST_LINE = 1 << 20
_SHOWN = 16  # characters of a bad field: in a wrong column it may be a key

Value = TypeVar("Value")


class _BadLineError(Exception):
    """A line that cannot be read: its number and what is wrong with it."""

    def __init__(self, number: int, problem: str) -> None:
        super().__init__(f"line {number}: {problem}")


def read_rows(path: Path) -> list[KeyRow]:
    """Read a whole export; raise ValueError, with a sentence that names the line, where it is none."""
    try:
        with path.open("rb") as file:
            return _rows(_records(_decoded(file)))
    except OSError as error:
        raise ValueError(f"the export {path} cannot be read: {error.strerror}") from None
    except _BadLineError as error:
        raise ValueError(f"the export {path} cannot be read at {error}") from None


def _decoded(file: BinaryIO) -> Iterator[str]:
    for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), start=1):
        if len(line) == _LONGEST_LINE:
            raise _BadLineError(number, "it is longer than 1 MiB")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise _BadLineError(number, "it is not UTF-8") from None


def _records(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the number of the line that it begins on; a name may hold line breaks."""
    reader = csv.reader(lines, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error:
            raise _BadLineError(number, "it is not CSV") from None
        if record is None:
            return
        if record:
            yield number, record


def _rows(records: Iterator[tuple[int, list[str]]]) -> list[KeyRow]:
    columns = _columns(*next(records, (1, [])))
    rows: list[KeyRow] = []
    lines: dict[str, int] = {}
    for number, record in records:
        row = _read(number, columns, record)
        if row.api_key_id in lines:
            raise _BadLineError(number, f"api_key_id is that of line {lines[row.api_key_id]} too")
        lines[row.api_key_id] = number
        rows.append(row)
    return rows


def _columns(number: int, header: list[str]) -> list[str]:
    if not header:
        raise _BadLineError(number, f"it is empty, and must name the columns {','.join(COLUMNS)}")
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise _BadLineError(number, f"there is no column {', '.join(missing)}")
    if len(header) > len(COLUMNS):
        # Its name is not shown: in a file without a header it would be somebody's data.
        raise _BadLineError(number, f"it has more columns than {','.join(COLUMNS)}; leave out the others")
    return header


@dataclass(frozen=True)
class _Line:
    """The fields of one row, by column."""

    number: int
    fields: dict[str, str]

    def read(self, column: str, reader: Callable[[str], Value], wanted: str) -> Value:
        text = self.fields[column]
        try:
            return reader(text)
        except (ValueError, RecursionError):
            raise _BadLineError(self.number, f"{column} is not {wanted}: {_beginning(text)}") from None


def _read(number: int, columns: list[str], record: list[str]) -> KeyRow:
    if len(record) != len(columns):
        raise _BadLineError(number, f"it has {len(record)} fields, the header has {len(columns)}")
    line = _Line(number, dict(zip(columns, record, strict=True)))
    stored, prefix = line.read("storage_scheme", _invent, f"one of {', '.join(_SCHEMES)}")
    revoked_at = line.read("revoked_at", _time_if_any, "a time")
    last_used_at = line.read("last_used_at", _time_if_any, "a time")
    return KeyRow(
        api_key_id=line.read("api_key_id", _id, "the id of a key"),
        key=stored,
        name=line.read("name", _text, "a text that PostgreSQL can hold"),
        owner_id=line.read("owner", _text, "a text that PostgreSQL can hold"),
        scopes=line.read("scopes", _scopes, "a JSON array of texts"),
        expires_at=line.read("expires_at", gotime.parse_timestamptz, "a time"),
        created_at=line.read("created_at", gotime.parse_timestamptz, "a time"),
        key_prefix=prefix,
        last_used_at=gotime.ZERO_MICROS if last_used_at is None else last_used_at,
        is_revoked=revoked_at is not None,
        revoked_at=revoked_at,
    )


def _beginning(text: str) -> str:
    return f"{text[:_SHOWN]!r}{'…' if len(text) > _SHOWN else ''}"


def _id(text: str) -> str:
    if _ID.fullmatch(text) is None:
        raise ValueError("no id")
    return text


def _text(text: str) -> str:
    if "\0" in text:
        raise ValueError("a NUL")
    text.encode()  # JSON can spell half a character
    return text


def _scopes(text: str) -> tuple[str, ...]:
    scopes = json.loads(text)
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise ValueError("no texts")
    return tuple(map(_text, scopes))


def _time_if_any(text: str) -> int | None:
    return gotime.parse_timestamptz(text) if text else None


def _invent(scheme: str) -> tuple[str, str | None]:
    """Return what goes into the columns ``key`` and ``key_prefix``, of a key that is forgotten at once."""
    if scheme not in _SCHEMES:
        raise ValueError("no scheme")
    plain = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    if scheme == "unknown":
        return f"unknown {plain}", None
    return scheme_named(scheme, fast=True).store(plain)
