"""Time stamps as Blnk writes them (Go's RFC 3339) and durations and dates as operators type them."""

import calendar
import re
from datetime import UTC, date, datetime, timedelta

from blnkctl.domain.errors import UsageError

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:([Zz])|([+-])(\d\d):(\d\d))", re.ASCII
)
_DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_DURATION = re.compile(r"(?:\d+(?:mo|[smhdwy]))+", re.ASCII)
_PART = re.compile(r"(\d+)(mo|[smhdwy])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
BEGINNING = datetime(2, 1, 1, tzinfo=UTC)  # for a time that is Go's zero and must be one: any zone can show it
FAR_FUTURE = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)


def parse_timestamp(text: str) -> datetime | None:
    """Read an RFC 3339 time stamp with up to nine fractional digits and any offset, to the microsecond, in UTC.

    Go's zero time (year 1, Blnk's way to say "never") is None. Fractions are rounded as PostgreSQL rounds them.

    Raises:
        ValueError: the text is no such time stamp.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 time stamp")
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    moment = datetime(max(year, 1), month, day, hour, minute, second, tzinfo=UTC)
    if year <= 1:
        return None
    try:
        return moment + timedelta(microseconds=_microseconds(match[7])) - _offset(match[9], match[10], match[11])
    except OverflowError:
        return FAR_FUTURE


def _microseconds(fraction: str | None) -> int:
    if fraction is None:
        return 0
    return round(float(f"0.{fraction}") * 1_000_000)  # as a double, so that halves go either way


def _offset(sign: str | None, hours: str | None, minutes: str | None) -> timedelta:
    if sign is None:
        return timedelta()
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if offset >= timedelta(hours=24) or int(minutes or 0) > 59:
        raise ValueError("an offset of a day or more, or of more than 59 minutes")
    return offset if sign == "+" else -offset


def format_timestamp(moment: datetime) -> str:
    """Write a moment as RFC 3339 in UTC with six digits and `Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def add_duration(start: datetime, text: str, *, flag: str, minutes: bool = True) -> datetime:
    """Add a typed duration (`30s`, `15m`, `12h`, `90d`, `2w`, `6mo`, `1y`, combined) to a moment.

    Months and years are calendar ones: 31 January and one month is the last day of February.
    With `minutes=False` a bare `m` is refused, where months would be as plausible.

    Raises:
        UsageError: the text is no duration, or reaches beyond the year 9999.
    """
    parts = _parts(text, flag, minutes)
    months = sum(number * (12 if unit == "y" else 1) for number, unit in parts if unit in ("mo", "y"))
    seconds = sum(number * _SECONDS[unit] for number, unit in parts if unit in _SECONDS)
    try:
        return _add_months(start, months) + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise bad_time(f"{flag} {text!r} reaches beyond the year 9999.") from None


def _parts(text: str, flag: str, minutes: bool) -> list[tuple[int, str]]:
    if len(text) > 40 or _DURATION.fullmatch(text) is None:
        raise UsageError(
            f"{flag} {text!r} is no duration.",
            code="bad_time",
            hint="Examples: 30s, 12h, 90d, 2w, 6mo, 1y6mo.",
        )
    parts = [(int(number), unit) for number, unit in _PART.findall(text)]
    if not minutes and any(unit == "m" for _, unit in parts):
        raise UsageError(
            f"{flag} {text!r}: 'm' could mean minutes or months.",
            code="bad_time",
            hint="Write 6mo for months, or 3600s or 1h for a time that short.",
        )
    return parts


def bad_time(message: str, hint: str = "Examples: 30s, 15m, 12h, 90d, 2w.") -> UsageError:
    """Return the error for a typed time that is none, or none that can be meant."""
    return UsageError(message, code="bad_time", hint=hint)


def _add_months(start: datetime, months: int) -> datetime:
    if not months:
        return start
    years, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    day = min(start.day, calendar.monthrange(years, month + 1)[1])
    return start.replace(year=years, month=month + 1, day=day)


def parse_duration(text: str, *, flag: str) -> timedelta:
    """Read a duration of fixed length (`30s`, `15m`, `12h`, `2d`, `1w`).

    Raises:
        UsageError: it is none, is zero, or is counted in months or years, whose length differs.
    """
    parts = _parts(text, flag, True)
    if any(unit in ("mo", "y") for _, unit in parts):
        raise bad_time(f"{flag} {text!r}: months and years have no fixed length.")
    try:
        length = timedelta(seconds=sum(number * _SECONDS[unit] for number, unit in parts))
    except OverflowError:
        raise bad_time(f"{flag} {text!r} is too long.") from None
    if not length:
        raise bad_time(f"{flag} {text!r} is no time at all.")
    return length


def parse_moment(text: str, *, flag: str, now: datetime) -> datetime:
    """Read a point in time: a date (00:00 UTC), an RFC 3339 time stamp, or a duration from now.

    Raises:
        UsageError: it is none of these.
    """
    if _DATE.fullmatch(text) is not None:
        return _parse_date(text, flag)
    if not text[:1].isdigit() or "T" not in text.upper():
        return _after(now, text, flag)
    try:
        moment = parse_timestamp(text)
    except ValueError:
        moment = None
    if moment is None:
        raise UsageError(
            f"{flag} {text!r} is no time stamp.", code="bad_time", hint="Example: 2027-06-30T12:00:00+02:00."
        )
    return moment


def _after(now: datetime, text: str, flag: str) -> datetime:
    if _DURATION.fullmatch(text) is None:
        raise UsageError(
            f"{flag} {text!r} is neither a duration nor a date.",
            code="bad_time",
            hint="Examples: 90d, 6mo, 1y6mo, 2027-06-30, 2027-06-30T12:00:00Z.",
        )
    return add_duration(now, text, flag=flag, minutes=False)


def _parse_date(text: str, flag: str) -> datetime:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{flag} {text!r}: there is no such day.", code="bad_time", hint="Example: 2027-06-30."
        ) from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
