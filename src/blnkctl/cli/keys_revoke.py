"""`blnkctl keys revoke`."""

from datetime import timedelta
from typing import Annotated

import typer

from blnkctl.cli.bulk import complete_selection, failure, no_key_is_named, refuse_both, show_plan
from blnkctl.cli.formats import Record, key_record
from blnkctl.cli.held import held_secrets
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result, Table
from blnkctl.cli.run import Run
from blnkctl.cli.selection import (
    AllOwners,
    Keys,
    NameGlob,
    Owners,
    OwnersFrom,
    Statuses,
    key_reader,
    key_words,
    read_selection,
)
from blnkctl.domain.errors import UsageError
from blnkctl.domain.keys import KeyStatus
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.secret import Secret
from blnkctl.domain.times import parse_duration
from blnkctl.usecases.guards import telling
from blnkctl.usecases.listing import the_one
from blnkctl.usecases.revoke import (
    ProveRevoked,
    Revocation,
    RevokeKeys,
    RevokeResult,
    read_secrets_for_proof,
)
from blnkctl.usecases.views import KeyView

app = application("Revoke keys.", "blnkctl keys revoke KEY")


@command(
    app,
    "revoke",
    """
    blnkctl keys revoke acme/billing
    blnkctl keys revoke api_key_3caf24 --wait
    blnkctl keys revoke --owner acme --name 'ci-*' --status active --dry-run
    blnkctl keys revoke --secret-stdin --wait --yes < paste.txt
    """,
)
def revoke(
    ctx: typer.Context,
    keys: Keys = None,
    owner: Owners = None,
    owners_from: OwnersFrom = None,
    all_owners: AllOwners = False,
    status: Statuses = None,
    name: NameGlob = None,
    secret_stdin: Annotated[
        bool, typer.Option("--secret-stdin", help="The key whose secret is in the text on standard input.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return when every server process refuses the key.")] = False,
    wait_limit: Annotated[str, typer.Option("--wait-limit", metavar="D", help="Give up waiting after this.")] = "6m",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be revoked, and send nothing.")] = False,
) -> int:
    """Revoke keys, named by KEY or by selectors. A revoked key stays listed and works never again.

    Without --wait other server processes may accept the key for a minute more. --wait needs the stored secret, or the
    one of --secret-stdin: it returns when twenty answers in a row, over at least 70 seconds, refused it.

    --secret-stdin reads any text, as `keys identify` does, and finds the one key of the server in use that it holds.
    Where the text is piped nobody can be asked: give --yes.

    Exit codes: 0 revoked, also if they were already, 2 several live keys fit, 6 unknown, 7 no such key, 8 some failed
    or the proof was not reached, 11 not confirmed, 12 Core before 0.12.
    """
    run = Run.of(ctx)
    limit = parse_duration(wait_limit, flag="--wait-limit")
    narrows = bool(owners_from or all_owners or status or name is not None)
    is_bulk = narrows or bool(owner and not keys and not secret_stdin)
    if secret_stdin:
        views, secrets = _by_text(run, owner, is_contradicted=narrows or bool(keys))
    else:
        secrets = {}
        views = (
            _selected(run, keys, owner, owners_from, all_owners, status, name)
            if is_bulk
            else _named(run, keys, owner)
        )
    if dry_run:
        return run.finish(_plan(views))
    if wait and not secrets:
        secrets = read_secrets_for_proof(views, held_secrets(run))
    if _live(views):
        _confirm(run, views, bulk=is_bulk)
    revocations = _revoke(run, views)
    if wait:
        revocations = [_prove(run, item, secrets[item.view.key.id], limit) for item in revocations]
    elif any(item.result is RevokeResult.REVOKED for item in revocations):
        run.terminal.note("Other server processes may accept a revoked key for a minute more; --wait waits for that.")
    return run.finish(_result(revocations))


def _by_text(run: Run, owner: list[str] | None, *, is_contradicted: bool) -> tuple[list[KeyView], dict[str, Secret]]:
    """Return the key that the text on standard input holds, and by its id the secret, for the proof."""
    from blnkctl.cli.key_search import find_by_text

    if is_contradicted:
        hint = "Nothing was revoked; leave one of them out."
        raise UsageError("Give KEYs, selectors or --secret-stdin.", code="contradiction", hint=hint)
    run.change_target()
    view, secret = find_by_text(run, owner)
    return [view], {view.key.id: secret}


def _named(run: Run, keys: list[str] | None, owner: list[str] | None) -> list[KeyView]:
    if not keys:
        raise no_key_is_named()
    words = key_words(keys)
    run.change_target()
    reader = key_reader(run, owner)
    with telling("Nothing was revoked."):
        viewpoint = reader.viewpoint()
        found = [the_one(word, reader.find(word, viewpoint)) for word in words]
    return list({view.key.id: view for view in found}.values())


def _selected(
    run: Run,
    keys: list[str] | None,
    owner: list[str] | None,
    owners_from: str | None,
    all_owners: bool,
    status: list[str] | None,
    name: str | None,
) -> list[KeyView]:
    """Return the selected keys that can be revoked: an incomplete list is no plan."""
    refuse_both(keys)
    run.change_target()
    with telling("Nothing was revoked."):
        reader = key_reader(run, for_bulk_change=True)
        selected = complete_selection(reader, read_selection(run, owner, owners_from, all_owners, status, name))
    views = [view for view in selected if view.status is not KeyStatus.REVOKED]
    if not views:
        run.terminal.note("No key is selected that could be revoked.")
    return views


def _live(views: list[KeyView]) -> list[KeyView]:
    return [view for view in views if not view.key.is_revoked]


def _confirm(run: Run, views: list[KeyView], *, bulk: bool) -> None:
    live = _live(views)
    if bulk or len(live) > 1:
        show_plan(run, live)
    what = escape_unsafe(live[0].full_name) if len(live) == 1 else f"these {len(live)} keys"
    run.confirmer().approve(f"Revoke {what}? Whoever uses {'it' if len(live) == 1 else 'them'} is refused.")


def _revoke(run: Run, views: list[KeyView]) -> list[Revocation]:
    wiring = run.wiring
    revoker = RevokeKeys(
        wiring.server, wiring.journal, wiring.locks, wiring.clock, run.terminal, wiring.actor, run.flags.reason
    )
    with run.terminal.progress("Revoking") as advance:
        return revoker.run(views, advance, look_again=run.terminal.is_attended and not run.flags.manners.yes)


def _prove(run: Run, item: Revocation, secret: Secret, limit: timedelta) -> Revocation:
    if item.result is RevokeResult.FAILED:
        return item
    prover = ProveRevoked(run.wiring.server, run.wiring.clock)
    with run.terminal.progress("Refused in a row") as advance:
        return prover.run(item, secret, limit, advance)


def _plan(views: list[KeyView]) -> Result:
    records: list[Record] = [{"key": key_record(view), "result": None, "proof": None} for view in _live(views)]
    return Result(records, table=Table(("key", "id", "status"), _planned))


def _planned(record: Record) -> list[str]:
    key = record["key"]
    assert isinstance(key, dict)
    return [escape_unsafe(f"{key['owner']}/{key['name']}"), str(key["id"]), str(key["status"])]


def _result(revocations: list[Revocation]) -> Result:
    errors = [failure(item.error, len(revocations)) for item in revocations if item.error is not None]
    table = Table(("key", "id", "result"), _cells)
    return Result([_record(item) for item in revocations], errors=errors, table=table)


def _record(item: Revocation) -> Record:
    proof = None
    if item.proof is not None:
        proof = {
            "probes": item.proof.probes,
            "accepted": item.proof.accepted,
            "refused_since": item.proof.refused_since,
        }
    return {"key": key_record(item.view), "result": str(item.result), "proof": proof}


def _cells(record: Record) -> list[str]:
    key = record["key"]
    assert isinstance(key, dict)
    return [escape_unsafe(f"{key['owner']}/{key['name']}"), str(key["id"]), str(record["result"]).replace("_", " ")]
