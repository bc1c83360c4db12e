"""`blnkctl migrate finish`."""

from datetime import timedelta
from typing import Annotated

import typer

from blnkctl.cli.migrations import PlanOption, items_of, result_of, summary_of, tell_summary, watched
from blnkctl.cli.options import application, command
from blnkctl.cli.rotations import revoker
from blnkctl.cli.run import Run
from blnkctl.domain.successions import SuccessionPhase
from blnkctl.domain.times import parse_duration
from blnkctl.usecases.headway import Headway, Tally
from blnkctl.usecases.migration_end import FinishMigration

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
    items = items_of(run, plan)
    run.change_target()
    finishing = _finisher(run, parse_duration(after, flag="--after"))
    tally = finishing.headway.tally
    past = [item.verified_at is not None for item in items if finishing.is_past(item)]
    tally.total = sum(1 for _ in items)
    tally.done = sum(1 for item in items if item.phase is SuccessionPhase.DONE)
    if past:
        _confirm(run, sum(past))
        with watched(run, "Revoking old rows") as watch:
            finishing.run(items, *watch)
    elif tally.total:
        run.terminal.note(f"No key whose old row is left was recreated {after} ago or longer: nothing is due.")
    summary = summary_of(tally)
    tell_summary(run, summary, "old rows are revoked")
    return run.finish(result_of(run, items, summary, tally.problems))


def _finisher(run: Run, after: timedelta) -> FinishMigration:
    wiring = run.wiring
    return FinishMigration(
        server=wiring.server,
        journal=wiring.journal,
        locks=wiring.locks,
        clock=wiring.clock,
        revoker=revoker(run),
        headway=Headway(Tally(0)),
        promoted_by=wiring.clock.now() - after,
    )


def _confirm(run: Run, due: int) -> None:
    if not due:
        return
    what = "one old row" if due == 1 else f"{due} old rows"
    run.confirmer().approve(
        f"Revoke {what}?", consequence="If the server is rolled back afterwards, the old keys do not work again."
    )
