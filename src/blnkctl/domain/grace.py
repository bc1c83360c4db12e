"""How long an old key works on beside its successor, as it is typed and as it is shown."""

from datetime import UTC, datetime, timedelta

from blnkctl.domain.times import add_duration, bad_time

DEFAULT_GRACE = timedelta(hours=24)
LONGEST_GRACE = timedelta(days=365)
_NEW_YEAR = datetime(2023, 1, 1, tzinfo=UTC)


def parse_grace(text: str, *, flag: str) -> timedelta:
    """Read a grace. Months count as those of a year without a leap day, so that 12mo are 1y and 365d.

    Raises:
        UsageError: it is no duration, could be minutes or months, is no time at all, or is more than a year.
    """
    grace = timedelta() if text.startswith("-") else _length(text, flag)
    if not grace:
        raise bad_time(
            f"{flag} {text!r} is no time to come.", "To end the old key at once: blnkctl keys rotate --now"
        )
    if grace > LONGEST_GRACE:
        raise bad_time(
            f"{flag} {text!r} is more than a year.", "To leave the old key alone: blnkctl keys rotate --keep-old"
        )
    return grace


def _length(text: str, flag: str) -> timedelta:
    return add_duration(_NEW_YEAR, text, flag=flag, minutes=False) - _NEW_YEAR


def format_grace(grace: timedelta) -> str:
    """Write a grace as one number and one unit, which can be typed again: days (from two on), hours, or seconds."""
    seconds = int(grace.total_seconds())
    if seconds % 86400 == 0 and seconds > 86400:
        return f"{seconds // 86400}d"
    return f"{seconds // 3600}h" if seconds % 3600 == 0 else f"{seconds}s"
