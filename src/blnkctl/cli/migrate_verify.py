"""`blnkctl migrate verify`."""

from dataclasses import replace

import typer

from blnkctl.cli.held import held_secrets
from blnkctl.cli.migrations import PlanOption, items_of, result_of, summary_of, tell_summary, watched
from blnkctl.cli.options import application, command
from blnkctl.cli.rotations import verifier
from blnkctl.cli.run import Run
from blnkctl.domain.errors import Incomplete
from blnkctl.usecases.headway import Headway, Tally
from blnkctl.usecases.migration_end import VerifyMigration

app = application("Verify a migration.", "blnkctl migrate verify")


@command(
    app,
    "verify",
    """
    blnkctl migrate verify
    blnkctl migrate verify --plan plan.json
    """,
)
def verify(ctx: typer.Context, plan: PlanOption = None) -> int:
    """Ask of each new key: is it listed with the scopes that it was to have, and does the server accept its secret?

    The secret is the one that the store gives back. The request leaves no trace of use. Only what was verified here
    may be finished. Without --plan, what was finished is not asked for again.

    Exit codes: 0 every one works, 5 secrets cannot be read here, 8 some do not, or are not recreated yet.
    """
    run = Run.of(ctx)
    wiring = run.wiring
    items = replace(items_of(run, plan), is_unfinished_only=plan is None)
    tally = Tally(sum(1 for _ in items))
    verification = VerifyMigration(
        wiring.server, wiring.store, wiring.journal, wiring.clock, held_secrets(run), verifier(run), Headway(tally)
    )
    with watched(run, "Verifying") as watch:
        verification.run(items, *watch)
    summary, errors = summary_of(tally), tally.problems
    tell_summary(run, summary, "work")
    if summary["pending"] and not errors:
        errors = [_not_all(summary["pending"])]
    if summary["done"] and not errors:
        run.terminal.note("Next, days later, when nobody uses the old keys any more: blnkctl migrate finish")
    return run.finish(result_of(run, items, summary, errors))


def _not_all(count: int) -> Incomplete:
    return Incomplete(
        f"{count} keys are not recreated yet.", code="incomplete", hint="To go on: blnkctl migrate run PLAN"
    )
