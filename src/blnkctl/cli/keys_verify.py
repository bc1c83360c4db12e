"""`blnkctl keys verify`."""

import typer

from blnkctl.cli.formats import Record, key_record
from blnkctl.cli.held import secret_reader
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result, Table
from blnkctl.cli.run import Run
from blnkctl.cli.selection import Keys, OwnerHint, key_reader, key_words
from blnkctl.domain.errors import BlnkctlError, GateTripped, Incomplete, Unsupported
from blnkctl.domain.keys import KeyStatus
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.selectors import IdPrefix, KeyWord
from blnkctl.usecases.listing import KeyReader
from blnkctl.usecases.secrets import Verification, VerifyKey
from blnkctl.usecases.views import KeyView, Viewpoint, key_from_index

app = application("Ask whether a stored secret authenticates.", "blnkctl keys verify KEY")


@command(
    app,
    "verify",
    """
    blnkctl keys verify acme/billing
    blnkctl keys list --status active -o ids | blnkctl keys verify -
    """,
)
def verify(ctx: typer.Context, keys: Keys = None, owner: OwnerHint = None) -> int:
    """Ask whether a stored secret authenticates, and show what the key may do.

    The request goes to a path that exists nowhere, so it reads nothing and leaves no trace of use.

    Exit codes: 0 every one does, 7 a secret is not held here, 8 undecided, 10 one does not.
    """
    run = Run.of(ctx)
    words = key_words(keys)
    wiring = run.wiring
    secrets = secret_reader(run)
    held = [secrets.run(word) for word in words]
    reader = key_reader(run, owner)
    verifier = VerifyKey(wiring.server, wiring.clock, run.terminal)
    records, errors = [], []
    viewpoint: Viewpoint | None = None
    for known, secret in held:
        verification = verifier.run(known, secret)
        viewpoint = viewpoint or _viewpoint(reader)
        records.append(_record(verification, _view(reader, viewpoint, known)))
        errors += _errors(verification)
    table = Table(("key", "authenticates", "reason", "scopes"), _cells)
    return run.finish(Result(records, errors=errors, table=table))


def _viewpoint(reader: KeyReader) -> Viewpoint | None:
    """Return what listed keys are judged by; None before 0.12, or where the server does not say."""
    try:
        return reader.viewpoint()
    except Unsupported:
        return None
    except BlnkctlError as problem:
        reader.reporter.warn(f"{problem.message} Shown as this machine knows it.")
        return None


def _view(reader: KeyReader, viewpoint: Viewpoint | None, known: KnownKey) -> KeyView:
    """Return the key as listed; where its owner cannot be listed, as the index knows it."""
    word: KeyWord = IdPrefix(known.id)
    try:
        if viewpoint is not None:
            return reader.find(word, viewpoint)[0]
    except BlnkctlError as problem:
        reader.reporter.warn(f"{problem.message} Shown as this machine knows it.")
    return KeyView(key_from_index(known), _status(reader, known), None, known, reader.context)


def _status(reader: KeyReader, known: KnownKey) -> KeyStatus:
    if known.is_revoked:
        return KeyStatus.REVOKED
    return KeyStatus.EXPIRED if known.expires_at <= reader.clock.now() else KeyStatus.ACTIVE


def _record(verification: Verification, view: KeyView) -> Record:
    return {"key": key_record(view), "authenticates": verification.authenticates, "reason": verification.reason}


def _errors(verification: Verification) -> list[BlnkctlError]:
    id_ = verification.known.id
    if verification.authenticates is None:
        message = f"Whether {id_} authenticates is undecided: {verification.reason}."
        return [Incomplete(message, code="undecided", hint=f"Try again: blnkctl keys verify {id_}", target=id_)]
    if not verification.authenticates:
        message = f"{id_} does not authenticate: {verification.reason}."
        hint = "Make a new key with: blnkctl keys create"
        return [GateTripped(message, code="does_not_authenticate", hint=hint, target=id_)]
    return []


def _cells(record: Record) -> list[str]:
    key = record["key"]
    assert isinstance(key, dict)
    answer = {True: "yes", False: "no", None: "undecided"}[record["authenticates"]]  # type: ignore[index]
    name = escape_unsafe(f"{key['owner']}/{key['name']}")
    return [name, answer, str(record["reason"]), ",".join(escape_unsafe(scope) for scope in key["scopes"])]
