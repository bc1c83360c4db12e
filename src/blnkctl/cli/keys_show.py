"""`blnkctl keys show`."""

import typer

from blnkctl.cli.formats import KEY_COLUMNS, Record, cell, key_record
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result, Table
from blnkctl.cli.run import Run
from blnkctl.cli.selection import Keys, OwnerHint, key_reader, key_words
from blnkctl.domain.names import escape_unsafe
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
    if run.output.chosen == "table":
        return run.finish(_sheets(records))
    return run.finish(Result(records, columns=KEY_COLUMNS))


def _sheets(records: list[Record]) -> Result:
    """Return one line a field, an empty line between keys."""
    lines: list[Record] = []
    for number, record in enumerate(records):
        lines += [{"": "", " ": ""}] if number else []
        lines += [{"": field.replace("_", " "), " ": escape_unsafe(cell(value))} for field, value in record.items()]
    return Result(lines, table=Table(("field", "value"), lambda line: [str(value) for value in line.values()]))
