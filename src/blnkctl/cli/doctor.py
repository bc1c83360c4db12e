"""`blnkctl doctor`."""

import secrets

import typer

from blnkctl.cli.formats import Record
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result, Table
from blnkctl.cli.run import Run
from blnkctl.domain.errors import GateTripped
from blnkctl.domain.names import escape_unsafe
from blnkctl.usecases.doctor import Check, CheckStatus, Examine
from blnkctl.usecases.listing import KeyReader, OwnerScope

app = application("Look at everything that a key's life depends on.", "blnkctl doctor")


@command(
    app,
    "doctor",
    """
    blnkctl doctor
    blnkctl doctor -o json
    """,
)
def doctor(ctx: typer.Context) -> int:
    """Look at everything that a key's life depends on.

    Asks the server (reachability, TLS, version, secure mode, admin key, clock, limiter), puts a canary through the
    store, and looks at state, journal and known owners. Changes nothing on the server.

    Exit codes: 0 all well or warnings only, 3 no server to look at, 10 a check failed.
    """
    run = Run.of(ctx)
    target, wiring = run.target, run.wiring
    reader = KeyReader(
        wiring.server,
        wiring.journal,
        wiring.clock,
        run.terminal,
        target.context,
        OwnerScope(configured=target.owners),
    )
    checks = list(
        Examine(
            server=wiring.server,
            find_store=lambda: wiring.store,
            check_state=lambda: f"schema {wiring.journal.check()} in {wiring.state_directory}",
            journal=wiring.journal,
            clock=wiring.clock,
            owners=reader.known_owners,
            canary=f"canary-{secrets.token_hex(8)}",
        ).run()
    )
    failed = [check.check for check in checks if check.status is CheckStatus.FAIL]
    table = Table(("check", "status", "message"), _cells)
    result = Result([_record(check) for check in checks], table=table)
    if failed:
        hint = "Each failed check says what to do."
        result.errors.append(GateTripped(f"Failed: {', '.join(failed)}.", code="check_failed", hint=hint))
    return run.finish(result)


def _cells(record: Record) -> list[str]:
    """Return a line for people: what to do stands behind what is wrong, and both are wrapped, never cut."""
    message, fix = str(record["message"]).rstrip("."), record["fix"]
    return [
        str(record["check"]),
        str(record["status"]),
        escape_unsafe(message if fix is None else f"{message}. {fix}"),
    ]


def _record(check: Check) -> dict[str, object]:
    return {"check": check.check, "status": str(check.status), "message": check.message, "fix": check.fix}
