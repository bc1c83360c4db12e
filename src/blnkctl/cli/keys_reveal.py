"""`blnkctl keys reveal`."""

from typing import Annotated

import typer

from blnkctl.cli.completers import complete_stored_key
from blnkctl.cli.held import secret_reader
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result
from blnkctl.cli.run import Run
from blnkctl.domain.selectors import parse_key_word

app = application("Print a stored secret.", "blnkctl keys reveal KEY")


@command(
    app,
    "reveal",
    """
    blnkctl keys reveal acme/billing | wl-copy
    blnkctl keys reveal acme/billing -o json
    """,
)
def reveal(
    ctx: typer.Context,
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY", help="An id, a beginning of one, or OWNER/NAME.", autocompletion=complete_stored_key
        ),
    ],
) -> int:
    """Print a stored secret, alone; without a newline where standard output is no terminal.

    On a terminal it asks first. For programs `keys exec` is better: there the secret is in no pipe and no scrollback.

    Exit codes: 0, 7 the secret is not held here, 11 declined.
    """
    run = Run.of(ctx)
    if run.terminal.shows_tables:
        run.confirmer().approve("Show the secret on this terminal?")
    known, secret = secret_reader(run).run(parse_key_word(key))
    if run.flags.output == "json":
        return run.finish(Result([{"id": known.id, "secret": secret.reveal()}], is_list=False))
    run.output.line(secret.reveal(), end="\n" if run.terminal.shows_tables else "")
    return 0
