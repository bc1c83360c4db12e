"""`blnkctl migrate …`: a module a verb, imported when it is called."""

from typing import ClassVar

import typer

from blnkctl.cli.options import LazyGroup, application


class MigrateGroup(LazyGroup):
    """The verbs, in the order of a migration."""

    table: ClassVar = {
        "plan": ("blnkctl.cli.migrate_plan", "Say what an upgrade does to each key, as a plan for review."),
        "run": ("blnkctl.cli.migrate_run", "Recreate the keys of a plan; interrupted, it goes on where it was."),
        "status": ("blnkctl.cli.migrate_status", "Show how far it is."),
        "verify": ("blnkctl.cli.migrate_verify", "Ask of each new key whether it works."),
        "finish": ("blnkctl.cli.migrate_finish", "Revoke the old rows of verified keys."),
        "report": ("blnkctl.cli.migrate_report", "Write down what was done, by whom, when and why."),
    }


app: typer.Typer = application(
    "Recreate the keys that an upgrade of Blnk Core kills: past 0.12.0, and past 0.13.2."
    "\n\n"
    "Plan, upgrade the server, run, verify, and days later finish. Keys that are made before it die with it.",
    """
    blnkctl migrate plan --all-owners --for-core 0.13.2 --out plan.json
    blnkctl migrate run plan.json
    blnkctl migrate verify
    blnkctl migrate finish
    """,
    cls=MigrateGroup,
)


# Typer makes a group only of what has commands or a callback, and the commands are not here yet.
app.callback()(lambda: None)
