"""`blnkctl migrate finish`."""

from typing import Annotated

import typer

from blnkctl.cli.migrations import PlanOption, is_stopped, items_of, result_of, summary_of, tell_summary
from blnkctl.cli.options import application, command
from blnkctl.cli.progress import migration_progress
from blnkctl.cli.rotations import revoker
from blnkctl.cli.run import Run
from blnkctl.domain.times import parse_duration
from blnkctl.usecases.migrate import Tally
from blnkctl.usecases.migration_end import FinishMigration, counted

app = application("Finish a migration.", "blnkctl migrate finish")


@command(
    app,
    "finish",
    """
    blnkctl migrate finish
    blnkctl migrate finish --after 7d --yes
    """,
)
def finish(
    ctx: typer.Context,
    after: Annotated[str, typer.Option("--after", metavar="D", help="Only what was recreated so long ago.")] = "48h",
    plan: PlanOption = None,
) -> int:
    """Revoke the old rows of keys that were verified, not before --after since they were recreated.

    Until then an old row is the way back: it works again if the server is rolled back. Nothing due is exit code 0.

    Exit codes: 0 done or nothing was due, 6 unknown, 8 some are due and not verified, 11 not confirmed.
    """
    run = Run.of(ctx)
    wiring = run.wiring
    items = items_of(run, plan)
    run.change_target()
    finishing = FinishMigration(
        wiring.server,
        wiring.journal,
        wiring.locks,
        wiring.clock,
        revoker(run),
        parse_duration(after, flag="--after"),
    )
    total = sum(counted(items).values())
    due = sum(1 for item in items if finishing.is_due(item))
    if not due:
        run.terminal.note(f"No verified key was recreated {after} ago or longer: nothing is due.")
    else:
        _confirm(run, due)
    with run.signals.deferred(), migration_progress(run, "Revoking old rows") as progress:
        tally = finishing.run(items, Tally(total), progress, is_stopped(run))
    summary = summary_of(tally)
    tell_summary(run, summary, "old rows are revoked")
    errors = [*tally.errors, *([] if tally.stopped is None else [tally.stopped])]
    return run.finish(result_of(run, items, summary, errors))


def _confirm(run: Run, due: int) -> None:
    what = "this old row" if due == 1 else f"{due} old rows"
    run.confirmer().approve(
        f"Revoke {what}?", consequence="If the server is rolled back afterwards, the old keys do not work again."
    )
