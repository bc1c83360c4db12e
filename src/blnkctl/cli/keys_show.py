"""`blnkctl keys show`."""

import typer

from blnkctl.cli.formats import KEY_COLUMNS, key_record
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result
from blnkctl.cli.run import Run
from blnkctl.cli.selection import Keys, OwnerHint, key_reader, key_words
from blnkctl.usecases.listing import the_one

app = application("Show keys.", "blnkctl keys show KEY")


@command(
    app,
    "show",
    """
    blnkctl keys show acme/billing
    blnkctl keys show api_key_3caf24 -o json
    """,
)
def show(ctx: typer.Context, keys: Keys = None, owner: OwnerHint = None) -> int:
    """Show keys: everything that the server and this machine know of each, but no secret.

    By name the live key is meant, or with none live the newest that is left.

    Exit codes: 0, 2 several live keys fit or no owner is known, 7 no such key, 12 Core before 0.12.
    """
    run = Run.of(ctx)
    words = key_words(keys)
    reader = key_reader(run, owner)
    viewpoint = reader.viewpoint()
    records = [key_record(the_one(word, reader.find(word, viewpoint))) for word in words]
    return run.finish(Result(records, columns=KEY_COLUMNS, is_sheet=True))
