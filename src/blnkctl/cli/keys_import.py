"""`blnkctl keys import`."""

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from blnkctl.cli.adoption import adopter
from blnkctl.cli.completers import complete_key
from blnkctl.cli.formats import Record, key_record
from blnkctl.cli.inputs import read_secret
from blnkctl.cli.key_search import ask_for_secret, comparing, identifier, is_terminal_input, place_in_use
from blnkctl.cli.key_tables import key_result
from blnkctl.cli.options import application, command
from blnkctl.cli.run import Run
from blnkctl.cli.selection import OwnerHint, key_reader
from blnkctl.domain.contexts import check_keeps
from blnkctl.domain.errors import NotFound, UsageError
from blnkctl.domain.secret import Secret
from blnkctl.domain.selectors import parse_key_word
from blnkctl.domain.sinks import COMMAND, PLACEHOLDERS, SinkAddress, SinkValues
from blnkctl.usecases.guards import telling
from blnkctl.usecases.views import KeyView

app = application("Adopt a secret that was made elsewhere.", "blnkctl keys import < FILE")


@command(
    app,
    "import",
    """
    blnkctl keys import acme/billing < secret.txt
    blnkctl keys import --owner acme
    blnkctl keys import acme/billing --from env-file:.env#API_KEY
    blnkctl keys import acme/billing --from 'env-file:/srv/{name}/.env'
    """,
)
def import_(
    ctx: typer.Context,
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="[KEY]",
            help="The key; without it the secret tells.",
            show_default=False,
            autocompletion=complete_key,
        ),
    ] = None,
    owner: OwnerHint = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="SINK", help="Read it from env-file:PATH[#VAR] instead (VAR: BLNK_API_KEY)."),
    ] = None,
) -> int:
    """Adopt a secret that was made elsewhere: take it from standard input into the store.

    It must be the secret of a live key: it is compared with what the server lists of the key, stored, read back and
    compared again. Nothing is changed on the server. The place that it came from is left as it is, so clean that
    afterwards. Symbolic links are not followed.

    In --from {owner}, {name} and {id} stand for those of the KEY, {context} for the context in use.

    Exit codes: 0 stored, also if it was already, 2 the key is not live, 5 the store cannot keep it, 7 no such key,
    8 not searched whole, or the end not recorded, 10 it is the secret of another key, 12 Core before 0.12.
    """
    run = Run.of(ctx)
    place = None if source is None else _readable_sink(run, source)
    check_keeps(run.change_target().store, "a secret to be imported into")
    named = [] if key is None else _by_word(run, key, owner)
    secret = _read_secret(run) if place is None else _from_file(run, place, named)
    adoption = adopter(run).run(named or _by_secret(run, secret, owner), secret)
    record: Record = {**key_record(adoption.view), "changed": adoption.changed}
    return run.finish(key_result([record], is_list=False))


# --- the secret ---------------------------------------------------------------------------------


def _read_secret(run: Run) -> Secret:
    return ask_for_secret(run) if is_terminal_input() else read_secret()


def _readable_sink(run: Run, text: str) -> SinkAddress:
    address = run.wiring.sink_address(text)
    if address.kind == COMMAND:
        raise UsageError(
            "--from names a command, which takes a secret and gives none back. Nothing was stored.",
            code="sink_not_readable",
            hint="It takes env-file:PATH[#VAR]. What a program prints: PROGRAM | blnkctl keys import [KEY]",
        )
    return address


def _from_file(run: Run, place: SinkAddress, named: Sequence[KeyView]) -> Secret:
    path, variable = place.filled(_values(run, place, named)).parts
    value = run.wiring.read_env_value(Path(path), variable)
    if value.open_mode is not None:
        readers = "everybody" if value.open_mode & stat.S_IRWXO else "its group"
        run.terminal.warn(f"{path} is open to {readers} (mode {value.open_mode:04o}); close it: chmod 600 {path}")
    return value.secret


def _values(run: Run, place: SinkAddress, named: Sequence[KeyView]) -> SinkValues:
    """Return what a place's placeholders stand for: what the context says, and what all keys of the KEY share."""
    keys = [view.key for view in named]
    said = {
        "owner": {key.owner for key in keys},
        "name": {key.name for key in keys},
        "id": {key.id for key in keys},
        "context": {run.target.context or ""} - {""},
    }
    known = {placeholder: "".join(values) for placeholder, values in said.items() if len(values) == 1}
    if unknown := sorted(place.placeholders - set(known)):
        raise _unfilled(unknown)
    return SinkValues(**(dict.fromkeys(PLACEHOLDERS, "") | known))


def _unfilled(placeholders: Sequence[str]) -> UsageError:
    shown = " and ".join(f"{{{name}}}" for name in placeholders)
    return UsageError(
        f"Nothing here says what {shown} of --from means. Nothing was stored.",
        code="unfilled_placeholder",
        hint="Name the KEY, by its id where several share its name; or write the place out.",
    )


# --- the key ------------------------------------------------------------------------------------


def _by_word(run: Run, key: str, owner: list[str] | None) -> list[KeyView]:
    """Return every key that a KEY fits: which of several it is, the secret tells."""
    reader = key_reader(run, owner)
    with telling("Nothing was stored."):
        return reader.find(parse_key_word(key), reader.viewpoint())


def _by_secret(run: Run, secret: Secret, owner: list[str] | None) -> list[KeyView]:
    place = place_in_use(run, owner)
    identified = identifier(run, [place]).locate(place, secret, comparing(run))
    views = [one.view for one in identified.keys if one.server == str(place.server.url) and one.view is not None]
    if views:
        return views
    if identified.unsearched:
        raise identified.unsearched[0]
    raise NotFound(
        f"The secret is no key's of the owners known of {place.shown}. Nothing was stored.",
        code="no_such_key",
        hint="Name the owner with --owner O; to search every known server: blnkctl keys identify",
    )
