"""`blnkctl keys can`."""

import sys
from typing import Annotated

import typer

from blnkctl.cli.completers import complete_key, complete_method
from blnkctl.cli.formats import Record
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result
from blnkctl.cli.run import Run
from blnkctl.cli.selection import OwnerHint, generation_in_use, key_reader
from blnkctl.domain.errors import BlnkctlError, GateTripped, Incomplete, UsageError
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.pasted import find_keys, find_refusal
from blnkctl.domain.permissions import Obstacle, Permission
from blnkctl.domain.refusals import explain_refusal
from blnkctl.domain.requests import ApiRequest, parse_request
from blnkctl.domain.secret import Secret, refuse_secret_word
from blnkctl.domain.selectors import parse_key_word
from blnkctl.usecases.identify import Match
from blnkctl.usecases.permissions import CheckPermission
from blnkctl.usecases.views import KeyView

app = application("Tell whether a key may do a request.", "blnkctl keys can KEY METHOD PATH")
_LONGEST_PASTED = 1024 * 1024


@command(
    app,
    "can",
    """
    blnkctl keys can acme/billing POST /transactions
    blnkctl keys can acme/billing GET https://ledger.example.com/ledgers
    blnkctl keys can - GET /ledgers < error.json
    """,
)
def can(
    ctx: typer.Context,
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY|-",
            help="An id, a beginning of one, or OWNER/NAME; - see above.",
            autocompletion=complete_key,
        ),
    ],
    method: Annotated[
        str, typer.Argument(metavar="METHOD", help="GET, POST, PUT, PATCH, DELETE, …", autocompletion=complete_method)
    ],
    path: Annotated[str, typer.Argument(metavar="PATH", help="As it is sent, or the whole URL.")],
    owner: OwnerHint = None,
) -> int:
    """Tell whether a key may do a request, and if not, why and what would mend it.

    The request itself is not sent: the answer is the rule of the server's version, applied to the key's scopes and
    status. What the request is about, a ledger say, need not exist.

    With - standard input is the key itself, or the error that the server answered, with or without its headers.

    Exit codes: 0 it may, 2 neither a key nor an error was read, 7 no such key, 8 undecided, 10 it may not.
    """
    run = Run.of(ctx)
    refuse_secret_word(key)
    request = parse_request(method, path, run.target.url.path)
    _tell_of_another_server(run, request)
    if key == "-":
        permission = _of_pasted(run, request, owner)
    else:
        permission = _check(run, owner).of_key(parse_key_word(key), request)
    errors = _errors(permission, request)
    return run.finish(Result([_record(permission)], is_list=False, is_sheet=True, errors=errors))


def _check(run: Run, owner: list[str] | None) -> CheckPermission:
    return CheckPermission(key_reader(run, owner), lambda secret: _locate(run, owner, secret))


def _locate(run: Run, owner: list[str] | None, secret: Secret) -> KeyView | None:
    from blnkctl.cli.key_search import comparing, identifier, place_in_use

    place = place_in_use(run, owner)
    identified = identifier(run, [place]).locate(place, secret, comparing(run))
    if any(one.match is Match.ADMIN_KEY for one in identified.found):
        raise UsageError("That is an admin key, which may do everything.", code="bad_input", hint="Give an API key.")
    if not identified.keys and identified.was_withheld:
        raise Incomplete(
            "Which key that is cannot be told without showing it to the server: it may be another one's admin key.",
            code="not_asked",
            hint="Name the key: blnkctl keys can OWNER/NAME METHOD PATH",
        )
    return next((one.view for one in identified.keys), None)


def _of_pasted(run: Run, request: ApiRequest, owner: list[str] | None) -> Permission:
    """Answer for what is on standard input: a refusal, which may stand beside the key that it was for, or a key.

    Raises:
        UsageError: it is neither, or several keys. What was read is never shown.
    """
    text = _pasted(run)
    refusal = find_refusal(text)
    if refusal is not None:
        return explain_refusal(refusal, request, generation_in_use(run))
    keys = find_keys(text)
    if len(keys) != 1:
        what = "several keys" if keys else "neither a key nor an error by which Blnk refuses one"
        hint = "Give one key alone, or the answer's body; or name the key in place of -."
        raise UsageError(f"Standard input holds {what}.", code="bad_input", hint=hint)
    return _check(run, owner).of_secret(keys[0], request)


def _pasted(run: Run) -> str:
    typed = run.terminal.ask_secret("The key, or the error on one line (not shown): ")
    if typed is not None:
        return typed.reveal()  # which of the two it is must be looked at; a key becomes a Secret again at once
    try:
        return sys.stdin.buffer.read(_LONGEST_PASTED).decode("utf-8", "replace")
    except (OSError, AttributeError):
        return ""


def _tell_of_another_server(run: Run, request: ApiRequest) -> None:
    url = run.target.url
    if request.host is not None and (request.host.rstrip("."), request.port) != (url.host, url.port):
        run.terminal.note(f"The URL is one of {escape_unsafe(request.host)}; the answer is for {url}.")


def _record(permission: Permission) -> Record:
    return {
        "allowed": permission.allowed,
        "needs": permission.needs,
        "has": list(permission.has),
        "reason": permission.reason,
        "fix": permission.fix,
    }


def _errors(permission: Permission, request: ApiRequest) -> list[BlnkctlError]:
    if permission.allowed:
        return []
    id_, reason, fix = permission.key_id, permission.reason, permission.fix
    who = id_ or "The key"
    if permission.obstacle is Obstacle.SCOPE:
        message = f"{who} may not {request}, for want of a scope: {reason}"
        return [GateTripped(message, code="missing_scope", hint=fix, target=id_)]
    if permission.obstacle is Obstacle.KEY:
        message = f"{who} may not {request}, as it does not authenticate: {reason}"
        return [GateTripped(message, code="does_not_authenticate", hint=fix, target=id_)]
    message = f"{who} may not {request}, and no scope would help: {reason}"
    return [GateTripped(message, code="not_allowed", hint=fix, target=id_)]
