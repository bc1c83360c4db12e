"""`blnkctl recover`."""

from typing import Annotated

import typer

from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result
from blnkctl.cli.run import Run
from blnkctl.domain.names import escape_unsafe
from blnkctl.usecases.recover import Recover, Recovered

app = application("Settle what was begun and not finished.", "blnkctl recover")


@command(
    app,
    "recover",
    """
    blnkctl recover --dry-run
    blnkctl recover
    """,
)
def recover(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    abandon_escrow: Annotated[
        bool,
        typer.Option("--abandon-escrow", help="The store is gone for good: revoke what only its escrow held."),
    ] = False,
) -> int:
    """Settle what was begun and not finished.

    Finds each unfinished operation's key by the server's list, the escrow and the store: the secret is kept where it
    can be, else the key is revoked. Never creates anything: a rotation that has not come to its end is
    named, and gone on with by `keys rotate`.

    Exit codes: 0 settled, 5 a store is locked or away, 6 cannot be told, 8 wait and run it again.
    """
    run = Run.of(ctx)
    run.change_target()
    if abandon_escrow and not dry_run:
        run.confirmer().approve("Give up the secrets that only the escrow holds, and revoke their keys?")
    settled = recovery(run, abandon_escrow=abandon_escrow, dry_run=dry_run).run()
    rotations = run.wiring.journal.open_rotations(run.target.url)
    for one in rotations:
        name = escape_unsafe(f"{one.old.owner}/{one.old.name}")
        run.terminal.warn(
            f"The rotation of {name} has not come to its end. Go on with: blnkctl keys rotate {one.old.id}"
        )
    if not settled and not rotations:
        run.terminal.note("Nothing is unfinished.")
    errors = [item.error for item in settled if item.error is not None]
    return run.finish(Result([_record(item) for item in settled], errors=errors))


def recovery(run: Run, *, abandon_escrow: bool = False, dry_run: bool = False) -> Recover:
    """Return who settles what was begun on the target in use."""
    wiring = run.wiring
    return Recover(
        server=wiring.server,
        stores=wiring.stores,
        journal=wiring.journal,
        locks=wiring.locks,
        clock=wiring.clock,
        reporter=run.terminal,
        abandon_escrow=abandon_escrow,
        dry_run=dry_run,
    )


def _record(item: Recovered) -> dict[str, object]:
    operation = item.operation
    return {
        "operation": f"{operation.kind} {operation.id}",
        "target": f"{operation.owner}/{operation.name}",
        "decision": str(item.decision),
        "message": item.message,
    }
