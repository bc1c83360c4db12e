"""`blnkctl owners …`."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from blnkctl.cli.completers import complete_added_owner
from blnkctl.cli.inputs import read_lines
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result
from blnkctl.cli.run import Run
from blnkctl.domain.errors import NotFound, UsageError
from blnkctl.domain.names import check_typed_name, escape_unsafe

app = application(
    "Remember the owners of keys. Blnk cannot list its owners, so blnkctl keeps a list for each server:"
    " those of the context, those added here, and those of keys made here.",
    """
    blnkctl owners add acme globex
    blnkctl owners list
    """,
)


@command(app, "list", "blnkctl owners list -o json")
def list_owners(ctx: typer.Context) -> int:
    """List the known owners, where each is known from, and how many keys of theirs are in the index.

    Exit codes: 0, also where none is known, 3 no server, 5 the journal cannot be read.
    """
    run = Run.of(ctx)
    target, journal = run.target, run.wiring.journal
    sources = journal.owners(target.url) | dict.fromkeys(target.owners, "context")
    counts = Counter(key.owner for key in journal.known_keys(target.url))
    records = [{"owner": owner, "source": sources[owner], "keys": counts[owner]} for owner in sorted(sources)]
    return run.finish(Result(list(records), when_empty="None is known yet: blnkctl owners add O…"))


@command(app, "add", "blnkctl owners add acme globex")
def add_owners(
    ctx: typer.Context, owners: Annotated[list[str], typer.Argument(metavar="O…", help="Owners to remember.")]
) -> int:
    """Remember owners of the server in use.

    Exit codes: 0, 2 a bad name, 3 no server, 5 the journal cannot be written.
    """
    return _add(Run.of(ctx), [check_typed_name(owner, "owner") for owner in owners])


@command(app, "remove", "blnkctl owners remove globex")
def remove_owners(
    ctx: typer.Context,
    owners: Annotated[
        list[str], typer.Argument(metavar="O…", help="Owners to forget.", autocompletion=complete_added_owner)
    ],
) -> int:
    """Forget owners that were added. Their keys are not touched.

    Exit codes: 0, 2 it is an owner of the context, 3 no server, 7 it was never added.
    """
    run = Run.of(ctx)
    target = run.change_target()
    sources = run.wiring.journal.owners(target.url)
    for owner in owners:
        if owner in target.owners:
            raise UsageError(
                f"{escape_unsafe(owner)} is an owner of the context itself.",
                code="owner_of_context",
                hint=f"Change them with: blnkctl context set {target.context} --owner …",
            )
        if sources.get(owner) != "added":
            detail = "; it is known from keys in the index" if owner in sources else ""
            raise NotFound(
                f"{escape_unsafe(owner)} was never added{detail}. Nothing was removed.",
                code="no_such_owner",
                hint="`blnkctl owners list` shows where each is known from.",
                target=owner,
            )
    count = run.wiring.journal.remove_owners(target.url, owners)
    run.terminal.note(f"{count} forgotten.")
    return run.done()


@command(
    app,
    "import",
    """
    blnkctl owners import owners.txt
    psql -Atc 'SELECT owner_id FROM blnk.api_keys' | blnkctl owners import -
    """,
)
def import_owners(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="One owner a line; - reads standard input.")],
) -> int:
    """Remember the owners in a file, one a line.

    Exit codes: 0, 2 the file is none or a name is bad, 3 no server, 5 the journal cannot be written.
    """
    owners = read_lines(file if file == "-" else Path(file))
    return _add(Run.of(ctx), [check_typed_name(owner, "owner") for owner in owners])


def _add(run: Run, owners: list[str]) -> int:
    target = run.change_target()
    count = run.wiring.journal.add_owners(target.url, owners)
    run.terminal.note(f"{count} new, {len(set(owners)) - count} known already.")
    return run.done()
