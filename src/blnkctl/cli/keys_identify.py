"""`blnkctl keys identify`."""

from shlex import quote

import typer

from blnkctl.cli.formats import Record, key_record
from blnkctl.cli.key_search import (
    comparing,
    context_of,
    every_place,
    identifier,
    is_terminal_input,
    read_any_text,
    tell_of_admin_keys,
)
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result, Table
from blnkctl.cli.run import Run
from blnkctl.cli.selection import OwnerHint
from blnkctl.domain.errors import BlnkctlError
from blnkctl.domain.keys import KeyStatus
from blnkctl.domain.names import escape_unsafe
from blnkctl.usecases.identify import Identification, Identified, not_found

app = application("Tell which key a text holds.", "blnkctl keys identify < FILE")
_COLUMNS = ("context", "match", "key", "accepted")


@command(
    app,
    "identify",
    """
    blnkctl keys identify
    blnkctl keys identify < paste.txt
    git log -p | blnkctl keys identify
    """,
)
def identify(ctx: typer.Context, owner: OwnerHint = None) -> int:
    """Tell which key a text on standard input holds: any text, in which a key or an admin key may stand.

    Every word that could be a key is compared with the keys and admin keys known here and with the listed keys of
    every known context and owner, and each server is asked whether it accepts it. With --context only that server is
    searched. What was read is never printed. Without standard input it is asked for, unseen.

    Only owners that are known here can be searched; --owner adds some.

    Exit codes: 0 found, 7 nowhere, 8 something could not be searched (where every word in a key's shape was found all
    the same: 0, and a warning) or a server accepts a key of an owner who is not known here.
    """
    run = Run.of(ctx)
    with every_place(run, owner) as (places, unusable):
        identified = identifier(run, places).run(places, read_any_text(run), comparing(run))
    _say_what_next(run, identified, owner or [])
    return run.finish(_result(run, identified, unusable))


def _result(run: Run, identified: Identified, unusable: list[BlnkctlError]) -> Result:
    errors = [*unusable, *identified.unsearched]
    if identified.is_explained:
        for problem in errors:
            run.terminal.warn(problem.message)
        errors = []
    elif not identified.has_match and not errors:
        errors = [not_found(identified)]
    return Result(_records(run, identified), columns=_COLUMNS, errors=errors, table=_TABLE)


def _records(run: Run, identified: Identified) -> list[Record]:
    if run.output.chosen == "ids":
        return [key_record(one.view) for one in identified.keys if one.view is not None]
    return [_record(one) for one in identified.found]


def _record(one: Identification) -> Record:
    key = None if one.view is None else key_record(one.view)
    return {"context": one.context, "match": str(one.match), "key": key, "accepted": one.accepted}


def _cells(record: Record) -> list[str]:
    key, accepted = record["key"], record["accepted"]
    shown = ["-", "-", "-"]
    if isinstance(key, dict):
        shown = [escape_unsafe(f"{key['owner']}/{key['name']}"), str(key["id"]), str(key["status"])]
    answer = "unknown" if accepted is None else ("yes" if accepted else "no")
    return [str(record["context"] or "-"), str(record["match"]).replace("_", " "), *shown, answer]


_TABLE = Table(("context", "match", "key", "id", "status", "accepted"), _cells)


# --- what to do about it ------------------------------------------------------------------------


def _say_what_next(run: Run, identified: Identified, typed_owners: list[str]) -> None:
    tell_of_admin_keys(run, identified)
    for one in identified.keys:
        run.terminal.note(_about_key(run, one, typed_owners))


def _about_key(run: Run, one: Identification, typed_owners: list[str]) -> str:
    view = one.view
    assert view is not None
    id_ = view.key.id
    if one.accepted is not True and view.status in (KeyStatus.REVOKED, KeyStatus.EXPIRED, KeyStatus.DEAD):
        return f"{id_} is {view.status}: it opens nothing any more."
    if view.key.is_revoked:
        return f"{id_} is revoked; a server process may accept it for a few minutes more."
    context = one.context or context_of(run, one.server)
    where = "" if context is None else f" --context {context}"
    where += f" --owner {quote(view.key.owner)}" if view.key.owner in typed_owners else ""
    if view.is_stored:
        return f"To revoke it: blnkctl keys revoke {id_} --wait{where}"
    if is_terminal_input():
        return f"To revoke {id_}: blnkctl keys revoke --secret-stdin --wait{where}"
    return (
        f"To revoke {id_}, with the same text on standard input:"
        f" blnkctl keys revoke --secret-stdin --wait --yes{where} < FILE"
    )
