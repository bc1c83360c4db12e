"""`blnkctl migrate status`."""

import typer

from blnkctl.cli.migrations import PlanOption, items_of, result_of, tell_summary
from blnkctl.cli.options import application, command
from blnkctl.cli.run import Run
from blnkctl.usecases.migration_plan import counted

app = application("Show a migration.", "blnkctl migrate status")


@command(
    app,
    "status",
    """
    blnkctl migrate status
    blnkctl migrate status --plan plan.json -o json
    """,
)
def status(ctx: typer.Context, plan: PlanOption = None) -> int:
    """Show how far a migration is, from the journal here alone. The table names what is not done yet.

    Exit codes: 0, 2 the plan is not in order.
    """
    run = Run.of(ctx)
    items = items_of(run, plan)
    summary = counted(items)
    tell_summary(run, summary, "are recreated")
    return run.finish(result_of(run, items, summary, tells_pending=True))
