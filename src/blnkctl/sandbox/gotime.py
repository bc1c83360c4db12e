"""Times as Go and PostgreSQL read, round and write them. Knows no JSON and no keys.

Python's datetime cannot hold nanoseconds, year 0 or year 10000, all of which a Core server accepts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_LAYOUT = "2006-01-02T15:04:05Z07:00"
_NANOS = 1_000_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS_IN_MONTH = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# Both RFC 3339 and what PostgreSQL prints. Before time zones an offset had seconds: a session in New York shows
# Go's zero time as 0001-12-31 19:03:58-04:56:02 BC.
_TIMESTAMPTZ = re.compile(
    r"(\d{4,6})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?"
    r"(?:[Zz]|([+-])(\d\d)(?::(\d\d)(?::(\d\d))?)?)( BC)?",
    re.ASCII,
)

ZERO_MICROS = -62_135_596_800 * 1_000_000  # 0001-01-01T00:00:00Z, Go's zero time


class GoTimeError(ValueError):
    """A time that Go's parser refuses; the text is Go's."""


class UnwritableTimeError(ValueError):
    """A time that Go can hold but not write as JSON, such as one in year 10000."""


@dataclass(frozen=True)
class GoTime:
    """Nanoseconds since 1970 and the offset, in seconds east of UTC, that it is written with."""

    nanos: int
    offset: int = 0
    is_zero: bool = False


def from_micros(micros: int) -> GoTime:
    return GoTime(micros * 1_000)


def from_datetime(moment: datetime, extra_nanos: int = 0) -> GoTime:
    return GoTime((moment - _EPOCH) // timedelta(microseconds=1) * 1_000 + extra_nanos)


def to_micros(time: GoTime) -> int:
    """Round as PostgreSQL does: it reads the fraction as a double, so halves go either way."""
    seconds, nanos = divmod(time.nanos, _NANOS)
    return seconds * 1_000_000 + round(float(f"0.{nanos:09d}") * 1_000_000)


def postgres_refusal(time: GoTime) -> str | None:
    """Return what PostgreSQL says to an offset of sixteen hours or more."""
    if abs(time.offset) < 16 * 3600:
        return None
    return f'time zone displacement out of range: "{_local(time).replace("T", " ")}{_zone(time.offset)}"'


def write(time: GoTime) -> str:
    """Write RFC 3339 with trailing zeros trimmed; raise UnwritableTimeError for what Go cannot."""
    text = _local(time)
    if text[4] != "-":
        raise UnwritableTimeError("Time.MarshalJSON: year outside of range [0,9999]")
    return text + (_zone(time.offset) if time.offset else "Z")


def _local(time: GoTime) -> str:
    seconds, nanos = divmod(time.nanos + time.offset * _NANOS, _NANOS)
    days, second = divmod(seconds, 86_400)
    year, month, day = _civil(days)
    clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{year:04d}-{month:02d}-{day:02d}T{clock}{fraction}"


def _zone(offset: int) -> str:
    sign = "-" if offset < 0 else "+"
    return f"{sign}{abs(offset) // 3600:02d}:{abs(offset) // 60 % 60:02d}"


def _civil(days: int) -> tuple[int, int, int]:
    """Turn days since 1970-01-01 into a proleptic Gregorian date; any year."""
    eras, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year_of_era + eras * 400 + (month <= 2), month, day_of_year - (153 * shifted + 2) // 5 + 1


def _days(year: int, month: int, day: int) -> int:
    year -= month <= 2
    eras, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return eras * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719_468


def _is_day(year: int, month: int, day: int) -> bool:
    if not 1 <= month <= 12:
        return False
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return 1 <= day <= _DAYS_IN_MONTH[month - 1] + leap


def parse_timestamptz(text: str) -> int:
    """Read a time as PostgreSQL prints it, or RFC 3339, in microseconds since 1970; raise ValueError."""
    match = _TIMESTAMPTZ.fullmatch(text)
    if match is None:
        raise ValueError("no time")
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    year = 1 - year if match[12] else year
    if not _is_day(year, month, day) or hour > 23 or minute > 59 or second > 59:
        raise ValueError("no such time")
    clock = hour * 3600 + minute * 60 + second - _seconds_east(match[8], match.group(9, 10, 11))
    nanos = int((match[7] or "").ljust(9, "0"))
    return to_micros(GoTime((_days(year, month, day) * 86_400 + clock) * _NANOS + nanos))


def _seconds_east(sign: str | None, parts: tuple[str | None, ...]) -> int:
    hours, minutes, seconds = (int(part or 0) for part in parts)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError("no such offset")
    return (hours * 3600 + minutes * 60 + seconds) * (-1 if sign == "-" else 1)


def parse(raw: bytes) -> GoTime:
    """Read what stands between the quotes of a JSON string, unescaped; raise GoTimeError."""
    return _Reader(raw).read()


def _quote(raw: bytes) -> str:
    def one(octet: int) -> str:
        if octet in b'"\\':
            return "\\" + chr(octet)
        return chr(octet) if 0x20 <= octet < 0x80 else f"\\x{octet:02x}"

    return '"' + "".join(map(one, raw)) + '"'


class _Reader:
    """Walks through a text element by element, as Go walks through its layout."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._rest = raw

    def read(self) -> GoTime:
        year = int(self._take(rb"[0-9]{4}", "2006"))
        self._literal("-")
        month = self._number("01", 1, 12, "month")
        self._literal("-")
        day = self._number("02", 0, 99, "day")
        self._literal("T")
        second = self._clock()
        nanos = self._fraction()
        offset, in_utc = self._offset()
        self._finish(year, month, day)
        total = (_days(year, month, day) * 86_400 + second - offset) * _NANOS + nanos
        return GoTime(total, offset, in_utc and total == ZERO_MICROS * 1_000)

    def _clock(self) -> int:
        hour = self._number("15", 0, 23, "hour", pattern=rb"[0-9]{1,2}")
        self._literal(":")
        minute = self._number("04", 0, 59, "minute")
        self._literal(":")
        return hour * 3600 + minute * 60 + self._number("05", 0, 59, "second")

    def _fraction(self) -> int:
        match = re.match(rb"[.,]([0-9]+)", self._rest)
        if match is None:
            return 0
        self._rest = self._rest[match.end() :]
        return int(match[1][:9].ljust(9, b"0"))

    def _offset(self) -> tuple[int, bool]:
        if self._rest.startswith(b"Z"):
            self._rest = self._rest[1:]
            return 0, True
        text = self._take(rb"[+-][0-9]{2}:[0-9]{2}", "Z07:00").decode()
        hours, minutes = int(text[1:3]), int(text[4:])
        # Go lets 24 hours and 60 minutes pass, "as some people do write offsets" so.
        if hours > 24 or minutes > 60:
            raise self._out_of_range("time zone offset minute" if minutes > 60 else "time zone offset hour")
        return (hours * 60 + minutes) * (-60 if text[0] == "-" else 60), False

    def _finish(self, year: int, month: int, day: int) -> None:
        if self._rest:
            raise GoTimeError(f"parsing time {_quote(self._raw)}: extra text: {_quote(self._rest)}")
        if not _is_day(year, month, day):
            raise self._out_of_range("day")

    def _number(self, element: str, low: int, high: int, name: str, pattern: bytes = rb"[0-9]{2}") -> int:
        number = int(self._take(pattern, element))
        if not low <= number <= high:
            raise self._out_of_range(name)
        return number

    def _literal(self, text: str) -> None:
        self._take(re.escape(text).encode(), text)

    def _take(self, pattern: bytes, element: str) -> bytes:
        match = re.match(pattern, self._rest)
        if match is None:
            raise GoTimeError(
                f'parsing time {_quote(self._raw)} as "{_LAYOUT}": cannot parse {_quote(self._rest)} as "{element}"'
            )
        self._rest = self._rest[match.end() :]
        return match[0]

    def _out_of_range(self, name: str) -> GoTimeError:
        return GoTimeError(f"parsing time {_quote(self._raw)}: {name} out of range")
