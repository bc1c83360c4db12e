"""`blnkctl keys deliver`."""

import typer

from blnkctl.cli.formats import Record, key_record
from blnkctl.cli.held import secret_reader
from blnkctl.cli.options import application, command
from blnkctl.cli.output import Result, Table
from blnkctl.cli.run import Run
from blnkctl.cli.selection import Keys, key_words
from blnkctl.cli.sinks import To, delivery, typed_sinks
from blnkctl.domain.errors import BlnkctlError, Incomplete, UsageError
from blnkctl.domain.keys import KeyStatus
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.operations import KnownKey
from blnkctl.usecases.deliver import Delivery, Recipient, not_delivered
from blnkctl.usecases.views import KeyView, key_from_index

app = application("Hand stored secrets to where they are used.", "blnkctl keys deliver KEY --to SINK")


@command(
    app,
    "deliver",
    """
    blnkctl keys deliver acme/billing --to env-file:/srv/billing/.env
    blnkctl keys deliver acme/billing --to 'command:vault kv put kv/b key=-'
    """,
)
def deliver(ctx: typer.Context, keys: Keys = None, to: To = None) -> int:
    """Hand stored secrets to where they are used, without any request to the server.

    Every place is tried before the first is written, and read back where it can be. A delivery that is repeated does
    no harm: an env-file is set anew, a command is run again. docs/sinks.md tells what is refused, and why.

    Exit codes: 0 delivered, 2 a place is refused and nothing was written, 5 the store cannot be read, 7 a secret is
    not held here, 8 a delivery failed: run it again.
    """
    run = Run.of(ctx)
    words = key_words(keys)
    sinks = typed_sinks(run, to)
    if not sinks:
        hint = "Give --to SINK, such as --to env-file:/srv/billing/.env"
        raise UsageError("No place to deliver to was named; nothing was delivered.", code="no_sink", hint=hint)
    run.change_target()
    reader = secret_reader(run)
    held = {known.id: (known, secret) for known, secret in map(reader.run, words)}
    delivering = delivery(run)
    delivering.check([(Recipient(known.owner, known.name, known.id), sinks) for known, _ in held.values()])
    done = [(known, item) for known, secret in held.values() for item in delivering.deliver(sinks, known, secret)]
    errors: list[BlnkctlError] = [_failure(known, item) for known, item in done if item.error is not None]
    table = Table(("key", "id", "sink", "status", "verified"), _cells)
    return run.finish(Result([_record(run, known, item) for known, item in done], errors=errors, table=table))


def _failure(known: KnownKey, item: Delivery) -> Incomplete:
    return not_delivered(known, [item], "Mend that, then run the same command again.")


def _record(run: Run, known: KnownKey, item: Delivery) -> Record:
    return {
        "key": key_record(_view(run, known)),
        "sink": item.sink,
        "status": "failed" if item.receipt is None else "delivered",
        "verified": None if item.receipt is None else item.receipt.verified,
    }


def _view(run: Run, known: KnownKey) -> KeyView:
    is_expired = known.expires_at <= run.wiring.clock.now()
    status = KeyStatus.REVOKED if known.is_revoked else KeyStatus.EXPIRED if is_expired else KeyStatus.ACTIVE
    receipts = tuple(run.wiring.journal.receipts(run.target.url).get(known.id, ()))
    return KeyView(key_from_index(known), status, None, known, run.target.context, receipts=receipts)


def _cells(record: Record) -> list[str]:
    key, verified = record["key"], record["verified"]
    assert isinstance(key, dict)
    answer = "cannot be read" if verified is None else ("yes" if verified else "no")
    name = escape_unsafe(f"{key['owner']}/{key['name']}")
    return [name, str(key["id"]), escape_unsafe(str(record["sink"])), str(record["status"]), answer]
