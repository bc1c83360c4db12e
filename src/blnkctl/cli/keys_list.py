"""`blnkctl keys list`."""

import typer

from blnkctl.cli.formats import KEY_COLUMNS, Record, key_record
from blnkctl.cli.key_tables import key_table
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result
from blnkctl.cli.run import Run
from blnkctl.cli.selection import AllOwners, NameGlob, Owners, OwnersFrom, Statuses, key_reader, read_selection
from blnkctl.usecases.listing import Listing

app = application("List keys.", "blnkctl keys list")


@command(
    app,
    "list",
    """
    blnkctl keys list
    blnkctl keys list --owner acme --status active
    blnkctl keys list --name 'ci-*' -o ids
    """,
)
def list_keys(
    ctx: typer.Context,
    owner: Owners = None,
    owners_from: OwnersFrom = None,
    all_owners: AllOwners = False,
    status: Statuses = None,
    name: NameGlob = None,
) -> int:
    """List keys, of every known owner unless some are named.

    last_used_at is empty for "never seen used": the server loses most of these updates, so it proves use, never
    disuse.

    Exit codes: 0, also for an empty list, 2 no owner is known, 8 an owner could not be listed, 12 Core before 0.12.
    """
    run = Run.of(ctx)
    selection = read_selection(run, owner, owners_from, all_owners, status, name)
    listing = key_reader(run).select(selection)
    result = Result((key_record(view) for view in listing.views), columns=KEY_COLUMNS, table=key_table())
    result.errors = listing.errors
    if listing.owners > 1:
        result.coverage = lambda: _coverage(listing)
    return run.finish(result)


def _coverage(listing: Listing) -> Record:
    coverage = listing.coverage
    return {"owners": coverage.owners, "failed": list(coverage.failed), "complete": coverage.is_complete}
