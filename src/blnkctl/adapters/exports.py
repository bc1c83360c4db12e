"""The export of a database's keys, read line by line: what a list would have said, where no list can be had.

Owns the format and what is wrong with a line. Knows neither where the lines come from nor what the keys are for.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from blnkctl.domain.errors import UsageError
from blnkctl.domain.exports import EXPORT_COLUMNS
from blnkctl.domain.keys import ApiKey, StorageScheme, is_key_id
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.times import BEGINNING, FAR_FUTURE, parse_timestamp

Value = TypeVar("Value")
_SHOWN = 16  # characters of a bad field: in a wrong column it may be a key
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_TIME = re.compile(
    r"(?P<year>\d{4,6})(?P<date>-\d\d-\d\d)[Tt ](?P<clock>\d\d:\d\d:\d\d(?:\.\d{1,9})?)"
    r"(?:[Zz]|(?P<sign>[+-])(?P<hours>\d\d)(?::(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d))?)?)(?P<bc> BC)?",
    re.ASCII,
)
_CALENDAR = 400  # years after which the Gregorian one repeats
_LAST_SHIFTED_FROM = 9600


def read_export(lines: Iterable[str]) -> Iterator[ApiKey]:
    """Yield the keys of an export as its lines arrive.

    The lines are those of a file opened with `newline=""`, since a name may hold line breaks of any kind. Ids are not
    compared with one another, so that memory stays flat.

    Raises:
        UsageError: the header or a line is not an export's (`bad_export`); keys before that were yielded.
    """
    records = _records(_texts(lines))
    columns = _columns(*next(records, (1, [])))
    for number, record in records:
        yield _row(number, columns, record).to_key()


def _texts(lines: Iterable[str]) -> Iterator[str]:
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError:  # of what was read ahead
        raise _bad(number + 1, "or one soon after it is not UTF-8") from None


def _records(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the number of its first line."""
    reader = csv.reader(lines, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            record = next(reader, None)
        except csv.Error:
            raise _bad(number, "is not CSV") from None
        if record is None:
            return
        if record:
            yield number, record


def _columns(number: int, header: list[str]) -> list[str]:
    missing = [column for column in EXPORT_COLUMNS if column not in header]
    if missing:
        raise _bad(number, f"must name the columns, and has no {', '.join(missing)}")
    if len(header) > len(EXPORT_COLUMNS):
        raise _bad(number, f"names more columns than {', '.join(EXPORT_COLUMNS)}: the others might hold keys")
    return header


def _row(number: int, columns: list[str], record: list[str]) -> "_Row":
    if len(record) != len(columns):
        raise _bad(number, f"has {len(record)} fields, and the header {len(columns)}")
    return _Row(number, dict(zip(columns, record, strict=True)))


def _bad(number: int, what: str) -> UsageError:
    hint = "`blnkctl migrate plan --help` shows the SQL that makes an export."
    return UsageError(f"Line {number} of the export {what}.", code="bad_export", hint=hint)


@dataclass(frozen=True, slots=True)
class _Row:
    """The fields of one record, by column."""

    number: int
    fields: dict[str, str]

    def to_key(self) -> ApiKey:
        revoked_at = self._read("revoked_at", _moment_if_any, "a time")
        return ApiKey(
            id=self._read("api_key_id", _id, "the id of a key"),
            name=self._read("name", _text, "a text as databases hold it"),
            owner=self._read("owner", _text, "a text as databases hold it"),
            scopes=self._read("scopes", _scopes, "a JSON array of texts"),
            expires_at=self._read("expires_at", _moment, "a time") or BEGINNING,
            created_at=self._read("created_at", _moment, "a time") or BEGINNING,
            last_used_at=self._read("last_used_at", _moment_if_any, "a time"),
            is_revoked=bool(self.fields["revoked_at"]),
            revoked_at=revoked_at,
            scheme=self._read("storage_scheme", StorageScheme, f"one of {', '.join(StorageScheme)}"),
        )

    def _read(self, column: str, read: Callable[[str], Value], wanted: str) -> Value:
        text = self.fields[column]
        try:
            return read(text)
        except (ValueError, RecursionError):
            shown = escape_unsafe(text[:_SHOWN]) + ("…" if len(text) > _SHOWN else "")
            raise _bad(self.number, f"is bad: {column} is not {wanted}: '{shown}'") from None


def _id(text: str) -> str:
    if not is_key_id(text):
        raise ValueError("no id")
    return text


def _text(text: str) -> str:
    if _NO_TEXT.search(text):
        raise ValueError("no text")
    return text


def _scopes(text: str) -> tuple[str, ...]:
    scopes = json.loads(text)
    if not isinstance(scopes, list) or not all(isinstance(scope, str) for scope in scopes):
        raise ValueError("no list of texts")
    return tuple(_text(scope) for scope in scopes)


def _moment_if_any(text: str) -> datetime | None:
    return _moment(text) if text else None


def _moment(text: str) -> datetime | None:
    """Read RFC 3339 or what PostgreSQL prints; Go's zero time, which a zone can show as 1 BC, is None."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("no time")
    east, year = _offset(match), 0 if match["bc"] else int(match["year"])
    shift = max(0, year - _LAST_SHIFTED_FROM) // _CALENDAR * _CALENDAR
    moment = parse_timestamp(f"{year - shift:04}{match['date']}T{match['clock']}Z")
    return moment and _shifted(moment, east, shift)


def _shifted(moment: datetime, east: timedelta, years: int) -> datetime:
    """East of UTC the last hours of the year 9999 are printed as the year 10000, which no datetime holds."""
    try:
        in_utc = moment - east
        return in_utc.replace(year=in_utc.year + years)
    except (OverflowError, ValueError):
        return FAR_FUTURE


def _offset(match: re.Match[str]) -> timedelta:
    if match["sign"] is None:
        return timedelta()
    hours, minutes, seconds = (int(match[part] or 0) for part in ("hours", "minutes", "seconds"))
    if hours > 23:
        raise ValueError("an offset of a day")
    east = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return east if match["sign"] == "+" else -east
