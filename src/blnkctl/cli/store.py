"""`blnkctl store …`."""

import secrets
from typing import Annotated

import typer

from blnkctl.cli.completers import complete_store
from blnkctl.cli.inputs import read_secret
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result
from blnkctl.cli.run import Run
from blnkctl.cli.selection import key_reader
from blnkctl.domain.contexts import KEEPING_STORES, check_keeps, check_store_kind
from blnkctl.domain.entries import EntryName, StoreStatus
from blnkctl.domain.errors import BlnkctlError, Incomplete, StoreUnavailable, UsageError
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import ServerUrl
from blnkctl.domain.times import format_timestamp, parse_duration
from blnkctl.usecases.move import MovedEntry, MoveEntries
from blnkctl.usecases.upkeep import Prune, PruneEntry, Sync

app = application(
    "Look after the stores of secrets: the OS keyring (os, the default), and the age store (age), one encrypted file"
    " a secret, for machines without a keyring.",
    """
    blnkctl store status
    blnkctl store init                    # makes the age store
    blnkctl store move --to age
    """,
)
Recipients = Annotated[
    list[str] | None,
    typer.Option("--recipient", metavar="R", help="Another public key that can read: age1… or ssh-… (repeatable)."),
]


@command(
    app,
    "init",
    """
    blnkctl store init
    blnkctl store init --recipient age1… --recipient 'ssh-ed25519 AAAA…'
    blnkctl store init --no-identity --recipient age1…    # can only be written
    """,
)
def init(
    ctx: typer.Context,
    recipient: Recipients = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Keep the identity bare, in a file that only you can read.")
    ] = False,
    no_identity: Annotated[
        bool, typer.Option("--no-identity", help="Keep no identity here: the store can only be written.")
    ] = False,
    passphrase_stdin: Annotated[
        bool, typer.Option("--passphrase-stdin", help="Read the passphrase from standard input.")
    ] = False,
) -> int:
    """Make the age store. Its identity is wrapped by a passphrase unless you say otherwise.

    Losing the identity loses the store: give a second --recipient whose identity is kept elsewhere.

    Exit codes: 0 made, or there already, 2 a bad recipient or passphrase, 5 it could not be written.
    """
    run = Run.of(ctx)
    if sum((no_passphrase, no_identity, passphrase_stdin)) > 1:
        message = "Give one of --no-passphrase, --no-identity, --passphrase-stdin."
        raise UsageError(message, code="contradiction")
    keys = run.wiring.age_keys
    if keys.status().state != "missing":
        run.terminal.note("There is a store already; it was left as it is.")
        return run.finish(_status(keys.status()))
    passphrase = None if no_passphrase or no_identity else _new_passphrase(run, passphrase_stdin)
    made = keys.initialise(recipient or (), passphrase, own_identity=not no_identity)
    if not made.made:
        run.terminal.note("Another blnkctl made the store at the same time; that one is used.")
    run.terminal.note(
        "To use it: BLNKCTL_STORE=age, or --store age of `blnkctl context add` and `set`."
        " To move keys that are in the OS keyring: blnkctl store move --to age"
    )
    return run.finish(_status(keys.status()))


@command(app, "status", "blnkctl store status")
def status(ctx: typer.Context) -> int:
    """Show each store: whether it can be used now, what keeps it, how many secrets it holds, how long reading takes.

    Asks for nothing, and never shows a dialog.

    Exit codes: 0, also where a store cannot be used.
    """
    run = Run.of(ctx)
    statuses = run.wiring.store_statuses()
    for problem in (status.problem for status in statuses if status.problem is not None):
        run.terminal.note(problem)
    return run.finish(_status(*statuses))


@command(app, "unlock", "blnkctl store unlock --for 8h")
def unlock(
    ctx: typer.Context,
    duration: Annotated[str, typer.Option("--for", metavar="D", help="For how long.")] = "1h",
) -> int:
    """Keep the identity, unwrapped, in the runtime directory (in memory, readable by you alone) for a while.

    Exit codes: 0, 2 a bad duration, 5 there is no store, a wrong passphrase, or no directory in memory.
    """
    run = Run.of(ctx)
    until = run.wiring.age_keys.unlock(parse_duration(duration, flag="--for"))
    run.terminal.note(f"Unlocked until {format_timestamp(until)}; `blnkctl store lock` ends it now.")
    return run.done()


@command(app, "lock", "blnkctl store lock")
def lock(ctx: typer.Context) -> int:
    """Forget the unlocked identity.

    Exit codes: 0, also where it was not unlocked.
    """
    run = Run.of(ctx)
    run.terminal.note("Locked." if run.wiring.age_keys.lock() else "It was not unlocked.")
    return run.done()


@command(
    app,
    "rekey",
    """
    blnkctl store rekey --recipient age1…      # these, beside the store's own
    blnkctl store rekey --new-identity
    """,
)
def rekey(
    ctx: typer.Context,
    recipient: Recipients = None,
    new_identity: Annotated[
        bool, typer.Option("--new-identity", help="Make a new identity for this machine; the old one opens nothing.")
    ] = False,
) -> int:
    """Encrypt every entry anew: for other recipients, or with a new identity. Can be interrupted and run again.

    --recipient names all the recipients beside the store's own; without it they stay as they are. A new identity is
    wrapped by the same passphrase. Copies and backups made before still open with the old identity.

    Exit codes: 0, 2 a bad recipient, 5 the store cannot be read or written: run it again.
    """
    run = Run.of(ctx)
    keys = run.wiring.age_keys
    passphrase = _passphrase_of_successor(run) if new_identity else None
    with run.terminal.progress("Encrypting anew") as advance:
        count = keys.rekey(recipient, passphrase, new_identity=new_identity, progress=advance)
    missing = set(recipient or ()) - set(keys.status().recipients)
    if missing:
        raise Incomplete(
            "A rekey that had been cut short was finished; the one asked for now was not begun.",
            code="earlier_rekey_finished",
            hint="Run it again.",
        )
    run.terminal.note(f"{count} file{'' if count == 1 else 's'} encrypted anew and read back.")
    return run.finish(_status(keys.status()))


@command(
    app,
    "move",
    """
    blnkctl store move --to age --dry-run
    blnkctl store move --to os
    """,
)
def move(
    ctx: typer.Context,
    to: Annotated[
        str, typer.Option("--to", metavar="STORE", help="Where to: os or age.", autocompletion=complete_store)
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be moved.")] = False,
) -> int:
    """Move what the other store holds of this server: its keys and its admin key. Can be interrupted and run again.

    Each entry is written, read back and compared, read back once more a second later, and only then removed from
    where it was. The contexts of this server then use the new store.

    Exit codes: 0, 2 more than the keyring takes in one change, 5 a store cannot be used, 8 an entry was left, or
    something is unfinished, 11 not confirmed.
    """
    run = Run.of(ctx)
    check_keeps(check_store_kind(to), "what the other stores hold")
    target = run.change_target()
    moving = _moving(run, target.url, to)
    if not dry_run:
        moving.settle()
    plan = moving.plan()
    if dry_run or not plan:
        if not plan:
            run.terminal.note(f"The {moving.source.kind} store holds nothing of {target.url}.")
        return run.finish(Result([_moved(moving, entry.username, "to be moved", None) for entry in plan]))
    question = f"Move {_entries(len(plan))} of {target.url} from the {moving.source.kind} store to {to}?"
    run.confirmer().approve(question)
    with run.terminal.progress("Moving") as advance:
        moved = moving.run(plan, EntryName(target.url, f"canary-{secrets.token_hex(8)}"), advance)
    _tell_of_environment(run, to)
    records = [_moved(moving, item.username, "left" if item.problem else "moved", item.problem) for item in moved]
    errors: list[BlnkctlError] = [_left(item, moving) for item in moved if item.problem]
    return run.finish(Result(records, errors=errors))


def _moving(run: Run, url: ServerUrl, goal: str) -> MoveEntries:
    (source,) = (kind for kind in KEEPING_STORES if kind != goal)
    wiring = run.wiring
    return MoveEntries(
        server=url,
        source=wiring.stores[source],
        goal=wiring.stores[goal],
        journal=wiring.journal,
        clock=wiring.clock,
        switch_contexts=lambda: wiring.configuration_file.switch_store(url, source, goal),
    )


def _tell_of_environment(run: Run, goal: str) -> None:
    named = run.environment.get("BLNKCTL_STORE")
    if named not in (None, "", goal):
        run.terminal.warn(f"BLNKCTL_STORE still names {named}: set it to {goal}.")


def _left(item: MovedEntry, moving: MoveEntries) -> Incomplete:
    return Incomplete(
        f"{item.username} was left in the {moving.source.kind} store: {item.problem}.",
        code="entry_differs",
        hint="Find out which is right (blnkctl keys verify), delete the other copy, then run this again.",
        target=item.username,
    )


def _moved(moving: MoveEntries, username: str, action: str, reason: str | None) -> dict[str, object]:
    stores = {"from": moving.source.kind, "to": moving.goal.kind}
    return {"id": username, "action": action, **stores, "reason": reason}


@command(app, "sync", "blnkctl store sync")
def sync(ctx: typer.Context) -> int:
    """Rebuild the index: ask the store for each key that the server lists for the known owners.

    Exit codes: 0, 2 no owner is known, 3 no server or store, 5 the store cannot be read, 12 Core before 0.12.
    """
    run = Run.of(ctx)
    run.change_target()
    outcome = Sync(key_reader(run), run.wiring.store, run.wiring.journal, run.wiring.clock).run()
    records: list[dict[str, object]] = [{"id": id_, "change": "found in the store"} for id_ in outcome.found]
    records += [{"id": id_, "change": "not in the store"} for id_ in outcome.lost]
    if outcome.elsewhere:
        run.terminal.note(
            f"{_entries(outcome.elsewhere)} of the index belong to another {run.wiring.store.kind} store than this"
            " one; they were left as they are."
        )
    if not records:
        run.terminal.note("The index and the store agree.")
    return run.finish(Result(records))


@command(
    app,
    "prune",
    """
    blnkctl store prune --dry-run
    blnkctl store prune
    """,
)
def prune(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted.")] = False,
) -> int:
    """Delete secrets of keys that the server lists as revoked or expired, and leftovers of kills.

    Never deletes an entry that a complete list of the known owners does not show, nor an admin key.

    Exit codes: 0, also where there is nothing to delete, 3 no server or store, 5 the store cannot be read, 11 not
    confirmed, 12 Core before 0.12.
    """
    run = Run.of(ctx)
    run.change_target()
    pruning = Prune(key_reader(run), run.wiring.store, run.wiring.journal)
    plan = pruning.plan()
    deletable = [entry for entry in plan if entry.is_deletable]
    if deletable and not dry_run:
        run.confirmer().approve(f"Delete {_entries(len(deletable))} of the {run.wiring.store.kind} store?")
        pruning.run(plan)
    if not dry_run:
        run.wiring.store.sweep()
    if not plan:
        run.terminal.note("There is nothing to delete.")
    return run.finish(Result([_pruned(entry, dry_run) for entry in plan]))


def _pruned(entry: PruneEntry, dry_run: bool) -> dict[str, object]:
    action = "kept" if not entry.is_deletable else ("to be deleted" if dry_run else "deleted")
    return {"id": entry.username, "action": action, "reason": entry.reason}


def _entries(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"


def _status(*statuses: StoreStatus) -> Result:
    return Result([_status_record(status) for status in statuses], is_sheet=True)


def _status_record(status: StoreStatus) -> dict[str, object]:
    return {
        "store": status.kind,
        "state": status.state,
        "entries": status.entries,
        "identity": status.identity,
        "path": None if status.directory is None else str(status.directory),
        "recipients": list(status.recipients),
        "backend": status.backend,
        "latency_ms": None if status.latency is None else round(status.latency * 1000, 1),
    }


def _new_passphrase(run: Run, from_stdin: bool) -> Secret:
    if from_stdin:
        return read_secret()
    given = run.wiring.given_passphrase()
    if given is not None:
        return given
    first = run.terminal.ask_secret("New passphrase for the age store: ")
    if first is None:
        raise UsageError(
            "The passphrase is missing, and nobody is here to type it.",
            code="no_passphrase",
            hint="Set BLNKCTL_STORE_PASSPHRASE, or with `store init` give --passphrase-stdin, --no-passphrase,"
            " or --no-identity with --recipient.",
        )
    if run.terminal.ask_secret("Once more: ") != first:
        raise UsageError("The two passphrases differ; nothing was made.", code="passphrases_differ")
    return first


def _passphrase_of_successor(run: Run) -> Secret | None:
    """Return what a new identity is wrapped by: the passphrase of the old one, or none where that is bare."""
    if run.wiring.age_keys.is_wrapped():
        return _passphrase(run)
    return None if run.wiring.age_keys.is_bare() else _new_passphrase(run, from_stdin=False)


def _passphrase(run: Run) -> Secret:
    passphrase = run.wiring.ask_passphrase()
    if passphrase is None:
        raise StoreUnavailable(
            "The age store is locked, and nobody is here to give its passphrase.",
            code="secret_store_locked",
            hint="Set BLNKCTL_STORE_PASSPHRASE.",
        )
    return passphrase
