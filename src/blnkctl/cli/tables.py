"""Tables for people, through rich. What servers named is text, never markup."""

import os
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from blnkctl.cli.formats import cell
from blnkctl.cli.output import Result
from blnkctl.domain.names import escape_unsafe

_UNLIMITED = 10_000
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
    if result.table is not None:
        headings = result.table.headings
        rows: list[Sequence[str]] = [result.table.cells(record) for record in records]
    else:
        headings = result.columns or tuple(records[0])
        rows = [[escape_unsafe(cell(record.get(column))) for column in headings] for record in records]
    width = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else _UNLIMITED
    return _draw(headings, rows, width, colour=colour)


def _draw(headings: tuple[str, ...], rows: Sequence[Sequence[str]], width: int, *, colour: bool) -> str:
    """Draw, dropping columns from the right until the first, which identifies the row, fits uncut."""
    for count in range(len(headings), 0, -1):
        table = _table(headings[:count], [list(row)[:count] for row in rows])
        console = Console(width=_UNLIMITED, no_color=not colour)
        if count == 1 or console.measure(table).maximum <= width:
            break
    target = Console(
        width=max(width, 1), force_terminal=colour, no_color=not colour, highlight=False, markup=False, soft_wrap=True
    )
    with target.capture() as captured:
        target.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _table(headings: tuple[str, ...], rows: list[list[str]]) -> RichTable:
    table = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading.upper().replace("_", " "), no_wrap=True)
    for row in rows:
        table.add_row(*(Text(text, style=_STYLES.get(text, "")) for text in row))
    return table
