"""How keys look in a table."""

from datetime import UTC, datetime, timedelta

from blnkctl.cli.formats import KEY_COLUMNS, Record, cell
from blnkctl.cli.output import Result, Table
from blnkctl.domain.errors import BlnkctlError
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.times import parse_timestamp

_YEAR, _MONTH, _HOUR = 365.25, 365.25 / 12, 1 / 24
_UNITS = ((2 * _YEAR, _YEAR, "y"), (4 * _MONTH, _MONTH, "mo"), (2, 1, "d"), (2 * _HOUR, _HOUR, "h"))


def key_result(
    records: list[Record], errors: list[BlnkctlError] | None = None, *, is_list: bool = True, reveal: bool = False
) -> Result:
    """Return the result of a command whose outcome is keys."""
    columns = (*KEY_COLUMNS, "secret") if reveal else KEY_COLUMNS
    return Result(records, is_list=is_list, columns=columns, table=key_table(reveal=reveal), errors=errors or [])


def key_table(*, reveal: bool = False) -> Table:
    """Return the table of keys: what identifies and judges a key stands left, what may be dropped right."""
    headings = ("id", "key", "status", "expires", "scopes", "stored", "last seen")
    return Table(("secret", *headings) if reveal else headings, lambda record: _cells(record, reveal))


def _cells(record: Record, reveal: bool) -> list[str]:
    now = datetime.now(UTC)
    cells = [
        str(record["id"]),
        escape_unsafe(f"{record['owner']}/{record['name']}"),
        str(record["status"]),
        relative(record["expires_at"], now),
        escape_unsafe(cell(record["scopes"])),
        "yes" if record["stored"] else "no",
        relative(record["last_used_at"], now),
    ]
    return [str(record.get("secret", "")), *cells] if reveal else cells


def relative(moment: object, now: datetime) -> str:
    """Return a time stamp of a record as people say it: `in 3mo`, `2d ago`, `never`."""
    if moment is None:
        return "never"
    parsed = parse_timestamp(str(moment))
    if parsed is None:
        return "never"
    distance = _length(abs(parsed - now))
    return f"in {distance}" if parsed > now else f"{distance} ago"


def _length(span: timedelta) -> str:
    """Return a length in the unit that says it within a few per cent, rounded: 90 days are `90d`, not `2mo`."""
    days = span / timedelta(days=1)
    for least, size, unit in _UNITS:
        if days >= least - size / 50:
            return f"{round(days / size)}{unit}"
    seconds = round(span.total_seconds())
    return f"{round(seconds / 60)}m" if seconds >= 60 else f"{seconds}s"
