"""Standard output: the result and nothing else, in the format asked for."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain

from blnkctl.cli.exits import INCOMPLETE, combined_code
from blnkctl.cli.formats import Record, cell, csv_text, document, tsv_line
from blnkctl.cli.terminal import Terminal
from blnkctl.domain.errors import BlnkctlError
from blnkctl.domain.names import escape_unsafe


@dataclass(frozen=True)
class Table:
    """How records look in a table: headings and the text of each cell; what stands right is left out first."""

    headings: tuple[str, ...]
    cells: Callable[[Record], Sequence[str]]


@dataclass
class Result:
    """What a command hands over: one record or many, and what went wrong beside it.

    `columns` None: the keys of the first record, in their order. `is_sheet`: as a table, one line a field.
    `when_empty`: what is said in place of an empty table. `summary`: in JSON the records are the `items` beside it,
    written as they come.
    """

    records: Iterable[Record]
    is_list: bool = True
    columns: tuple[str, ...] | None = None
    table: Table | None = None
    is_sheet: bool = False
    when_empty: str | None = None
    errors: list[BlnkctlError] = field(default_factory=list)
    coverage: Callable[[], Record] | None = None
    summary: Record | None = None


class Output:
    """Writes results. A closed standard output never stops a change."""

    def __init__(self, terminal: Terminal, command: str, chosen: str | None) -> None:
        self._terminal = terminal
        self._command = command
        self.chosen = chosen or ("table" if terminal.shows_tables else "tsv")

    def write(self, result: Result) -> None:
        """Write a result in the chosen format."""
        writers = {
            "json": self._json,
            "jsonl": self._jsonl,
            "tsv": self._tsv,
            "csv": self._csv,
            "ids": self._ids,
            "table": self._table,
        }
        writers[self.chosen](result)

    def write_done(self) -> None:
        """Write the document of a command that has nothing to tell, where the format has one."""
        if self.chosen == "json":
            self.line(document(self._command, None, []))

    def write_failure(self, error: BlnkctlError) -> None:
        """Write the document of a command that failed, where the format has one."""
        if self.chosen == "json":
            self.line(document(self._command, None, [error]))

    def line(self, text: str, end: str = "\n") -> None:
        """Write one line."""
        write_out(text + end, self._terminal)

    def _json(self, result: Result) -> None:
        if result.summary is not None:
            self._json_of_items(result.summary, result)
            return
        records = list(result.records)
        coverage = result.coverage() if result.coverage is not None else None
        data: object = records if result.is_list else records[0]
        self.line(document(self._command, data, result.errors, coverage, partial=_is_partial(records, result.errors)))

    def _json_of_items(self, summary: Record, result: Result) -> None:
        """Write the same document a record at a time: twenty thousand are not held at once."""
        is_partial = bool(result.errors) and combined_code(result.errors) == INCOMPLETE
        whole = document(self._command, {**summary, "items": ["*"]}, result.errors, partial=is_partial)
        before, _, after = whole.partition('[\n      "*"\n    ]')
        self.line(before + "[", end="")
        separator = "\n      "
        for record in result.records:
            self.line(separator + json.dumps(record), end="")
            separator = ",\n      "
        self.line(("]" if separator == "\n      " else "\n    ]") + after)

    def _jsonl(self, result: Result) -> None:
        for record in result.records:
            self.line(json.dumps(record))

    def _tsv(self, result: Result) -> None:
        for record in result.records:
            self.line(tsv_line(record.get(column) for column in result.columns or record))

    def _csv(self, result: Result) -> None:
        records = iter(result.records)
        first = next(records, None)
        columns = result.columns or tuple(first or ())
        if columns:
            self.line(csv_text(columns))
        for record in chain(() if first is None else (first,), records):
            self.line(csv_text(record.get(column) for column in columns))

    def _ids(self, result: Result) -> None:
        for record in result.records:
            self.line(escape_unsafe(cell(record.get("id", next(iter(record.values()))))))

    def _table(self, result: Result) -> None:
        from blnkctl.cli.tables import render

        text = render(result, sys.stdout, colour=self._terminal.may_colour(sys.stdout))
        if text:
            self.line(text, end="")
        elif result.when_empty is not None:
            self._terminal.note(result.when_empty)


def _is_partial(records: Sequence[Record], errors: Sequence[BlnkctlError]) -> bool:
    """Tell whether part of it was done: there is data, and what is missing can be resumed (exit code 8)."""
    return bool(records) and combined_code(errors) == INCOMPLETE


def write_out(text: str, terminal: Terminal) -> None:
    """Write to standard output; whoever closed it does not want the rest, and nothing is undone for that."""
    try:
        sys.stdout.write(text)
    except BrokenPipeError:
        return
    except AttributeError:  # there is no standard output
        terminal.warn("Standard output is closed; the result was not written.")
    except (OSError, ValueError) as error:
        terminal.lose_result(str(getattr(error, "strerror", None) or error))
