"""Tables for people, through rich. What servers named is text, never markup.

Prose is wrapped, everything else stays whole: what does not fit beside it is left out, from the right.
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from blnkctl.cli.formats import Record, cell
from blnkctl.cli.key_tables import relative
from blnkctl.cli.output import Result
from blnkctl.domain.names import escape_unsafe

_UNLIMITED = 10_000
_PROSE = frozenset({"message", "note", "reason", "warnings", "value", "path"})
_NARROWEST_PROSE = 24
_GAP = 2
Rows = list[Sequence[str]]
_STYLES = {
    "active": "green",
    "superseded": "yellow",
    "dead": "red",
    "expired": "red",
    "revoked": "dim",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
}


def render(result: Result, stream: TextIO, *, colour: bool) -> str:
    """Return a result's table; piped it is as wide as it needs to be."""
    records = list(result.records)
    if not records:
        return ""
    width = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else _UNLIMITED
    headings, rows = _contents(result, records)
    return _draw(headings, rows, width, colour=colour)


def _contents(result: Result, records: Sequence[Record]) -> tuple[tuple[str, ...], Rows]:
    if result.is_sheet:
        return ("field", "value"), _sheet_rows(records)
    if result.table is not None:
        return result.table.headings, [result.table.cells(record) for record in records]
    headings = result.columns or tuple(records[0])
    return headings, [[_shown(record.get(column)) for column in headings] for record in records]


def _sheet_rows(records: Sequence[Record]) -> Rows:
    """Return one row a field, an empty one between records."""
    rows: Rows = []
    for number, record in enumerate(records):
        rows += [("", "")] if number else []
        rows += [(name.replace("_", " "), _shown(value, name)) for name, value in record.items()]
    return rows


def _shown(value: object, name: str = "") -> str:
    """Return a value as people read it: yes and no, a dash for nothing, times with their distance."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in (None, "", []):
        return "never" if name.endswith("_used_at") else "-"
    text = escape_unsafe(cell(value))
    return f"{text} ({relative(value, datetime.now(UTC))})" if name.endswith("_at") else text


def _draw(headings: tuple[str, ...], rows: Rows, width: int, *, colour: bool) -> str:
    """Draw, dropping columns from the right until the first, which identifies the row, fits uncut."""
    least = [_least_width(heading, [row[at] for row in rows]) for at, heading in enumerate(headings)]
    count = max((count for count in range(1, len(least) + 1) if _total(least[:count]) <= width), default=1)
    enough = max(width, _total(least[:count]))
    target = Console(width=enough, force_terminal=colour, no_color=not colour, highlight=False, markup=False)
    with target.capture() as captured:
        target.print(_table(headings[:count], [row[:count] for row in rows]))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _least_width(heading: str, texts: Sequence[str]) -> int:
    widest = max(cell_len(text) for text in (heading, *texts))
    return min(widest, _NARROWEST_PROSE) if heading in _PROSE else widest


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _table(headings: tuple[str, ...], rows: Rows) -> RichTable:
    table = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for heading in headings:
        table.add_column(heading.upper().replace("_", " "), overflow="fold", no_wrap=heading not in _PROSE)
    for row in rows:
        table.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in row))
    return table
