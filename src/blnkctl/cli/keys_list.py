"""`blnkctl keys list`."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated

import typer

from blnkctl.cli.formats import KEY_COLUMNS, Record, cell, key_record
from blnkctl.cli.key_tables import key_table
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result
from blnkctl.cli.run import Run
from blnkctl.cli.selection import AllOwners, NameGlob, Owners, OwnersFrom, Statuses, key_reader, read_selection
from blnkctl.domain.errors import BlnkctlError, GateTripped, UsageError
from blnkctl.usecases.listing import Listing

app = application("List keys.", "blnkctl keys list")


@command(
    app,
    "list",
    """
    blnkctl keys list
    blnkctl keys list --owner acme --status active
    blnkctl keys list --name 'ci-*' -o ids
    blnkctl keys list --status dead --fail-if-any
    """,
)
def list_keys(
    ctx: typer.Context,
    owner: Owners = None,
    owners_from: OwnersFrom = None,
    all_owners: AllOwners = False,
    status: Statuses = None,
    name: NameGlob = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="F", help="Sort by this column; -F the other way round.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, max=10**9, help="At most so many.")
    ] = None,
    fail_if_any: Annotated[bool, typer.Option("--fail-if-any", help="Exit 10 if a key is listed: a gate.")] = False,
) -> int:
    """List keys, of every known owner unless some are named.

    last_used_at is empty for "never seen used": the server loses most of these updates, so it proves use, never
    disuse.

    Exit codes: 0, also for an empty list, 2 no owner is known, 8 an owner could not be listed, 10 a key was listed
    under --fail-if-any, 12 Core before 0.12.
    """
    run = Run.of(ctx)
    by = None if sort is None else _sort_key(sort)
    listing = key_reader(run).select(read_selection(run, owner, owners_from, all_owners, status, name))
    records = _arranged((key_record(view) for view in listing.views), by, limit)
    if fail_if_any:
        records = _gated(records, listing.errors)
    result = Result(records, columns=KEY_COLUMNS, table=key_table(), errors=listing.errors)
    result.when_empty = "No key fits."
    if listing.owners > 1:
        result.coverage = lambda: _coverage(listing)
    return run.finish(result)


def _gated(records: Iterable[Record], errors: list[BlnkctlError]) -> Iterator[Record]:
    """Pass records on; if there was one, the gate has tripped."""
    count = 0
    for record in records:
        count += 1
        yield record
    if count:
        what = "1 key is" if count == 1 else f"{count} keys are"
        errors.append(GateTripped(f"{what} listed, and --fail-if-any was given.", code="keys_listed"))


def _sort_key(text: str) -> tuple[str, bool]:
    """Read `F` or `-F`: the column, and whether it is the other way round.

    Raises:
        UsageError: there is no such column.
    """
    column = text.removeprefix("-")
    if column not in KEY_COLUMNS:
        raise UsageError(
            f"--sort {text!r} is no column.", code="bad_sort", hint=f"Columns: {', '.join(KEY_COLUMNS)}."
        )
    return column, text != column


def _arranged(records: Iterable[Record], by: tuple[str, bool] | None, limit: int | None) -> Iterator[Record]:
    """Yield records in the order asked for; unsorted they are passed on as they come. Nothing sorts before all."""
    if by is not None:
        column, is_reversed = by
        records = sorted(records, key=lambda record: cell(record[column]), reverse=is_reversed)
    return islice(records, limit)


def _coverage(listing: Listing) -> Record:
    coverage = listing.coverage
    return {"owners": coverage.owners, "failed": list(coverage.failed), "complete": coverage.is_complete}
