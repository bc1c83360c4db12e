"""`blnkctl keys import`."""

import re
import stat
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
from blnkctl.domain.errors import NotFound, UsageError
from blnkctl.domain.secret import Secret
from blnkctl.domain.selectors import parse_key_word
from blnkctl.usecases.guards import telling
from blnkctl.usecases.views import KeyView

app = application("Adopt a secret that was made elsewhere.", "blnkctl keys import < FILE")
_ENV_FILE = "env-file:"
_DEFAULT_VARIABLE = "BLNK_API_KEY"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@command(
    app,
    "import",
    """
    blnkctl keys import acme/billing < secret.txt
    blnkctl keys import --owner acme
    blnkctl keys import acme/billing --from env-file:.env#API_KEY
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

    Exit codes: 0 stored, also if it was already, 2 the key is not live, 5 the store cannot keep it, 7 no such key,
    8 not searched whole, or the end not recorded, 10 it is the secret of another key, 12 Core before 0.12.
    """
    run = Run.of(ctx)
    path_and_name = None if source is None else _read_source(source)
    run.change_target()
    secret = _read_secret(run) if path_and_name is None else _from_file(run, *path_and_name)
    views = _by_secret(run, secret, owner) if key is None else _by_word(run, key, owner)
    adoption = adopter(run).run(views, secret)
    record: Record = {**key_record(adoption.view), "changed": adoption.changed}
    return run.finish(key_result([record], is_list=False))


# --- the secret ---------------------------------------------------------------------------------


def _read_secret(run: Run) -> Secret:
    return ask_for_secret(run) if is_terminal_input() else read_secret()


def _read_source(text: str) -> tuple[Path, str]:
    """Read `env-file:PATH[#VAR]`; a `#` that no variable's name follows is part of the path."""
    path = text.removeprefix(_ENV_FILE)
    before, hash_, name = path.rpartition("#")
    if hash_ and _VARIABLE.fullmatch(name):
        path = before
    else:
        name = _DEFAULT_VARIABLE
    if not text.startswith(_ENV_FILE) or not path:
        raise UsageError(
            "--from names no place that a secret can be read from.",
            code="bad_sink",
            hint="It takes env-file:PATH or env-file:PATH#VAR; without it the secret is read from standard input.",
        )
    return Path(path).expanduser(), name


def _from_file(run: Run, path: Path, name: str) -> Secret:
    value = run.wiring.read_env_value(path, name)
    if value.open_mode is not None:
        readers = "everybody" if value.open_mode & stat.S_IRWXO else "its group"
        run.terminal.warn(f"{path} is open to {readers} (mode {value.open_mode:04o}); close it: chmod 600 {path}")
    return value.secret


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
