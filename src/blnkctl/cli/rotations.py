"""What `keys rotate` and `keys finish` share: who does it, and how its outcome is shown."""

from collections.abc import Sequence
from datetime import UTC, datetime

from blnkctl.cli.adoption import adopter, made_elsewhere
from blnkctl.cli.bulk import failure
from blnkctl.cli.formats import Record, key_record, time_or_none
from blnkctl.cli.held import held_secrets
from blnkctl.cli.key_tables import relative
from blnkctl.cli.output import Result, Table
from blnkctl.cli.recover import recovery
from blnkctl.cli.run import Run
from blnkctl.cli.sinks import delivery
from blnkctl.domain.finishing import DrainRule
from blnkctl.domain.names import escape_unsafe
from blnkctl.usecases.finish import FinishRotations
from blnkctl.usecases.listing import KeyReader
from blnkctl.usecases.mint import MintKey
from blnkctl.usecases.refusal import AwaitRefusal
from blnkctl.usecases.revoke import RevokeKeys
from blnkctl.usecases.rotate import RotateKeys
from blnkctl.usecases.rotations import Rotation
from blnkctl.usecases.secrets import VerifyKey
from blnkctl.usecases.successors import CarrySuccessor

# --- who does it --------------------------------------------------------------------------------


def rotator(run: Run, reader: KeyReader) -> RotateKeys:
    """Return who rotates keys of the target in use."""
    wiring, delivering, held = run.wiring, delivery(run), held_secrets(run)
    return RotateKeys(
        server=wiring.server,
        store=wiring.store,
        journal=wiring.journal,
        locks=wiring.locks,
        clock=wiring.clock,
        approver=run.confirmer(),
        reporter=run.terminal,
        reader=reader,
        mint=MintKey(
            wiring.server, wiring.store, wiring.journal, wiring.locks, wiring.clock, wiring.signals, verifier(run)
        ),
        successor=CarrySuccessor(
            wiring.server, wiring.store, wiring.journal, wiring.clock, held, verifier(run), delivering
        ),
        delivery=delivering,
        held=held,
        elsewhere=made_elsewhere(run),
        adopter=adopter(run),
        recover=recovery(run),
        revoker=revoker(run),
        refusal=AwaitRefusal(wiring.server, wiring.clock, run.terminal, held),
    )


def finisher(run: Run, reader: KeyReader, rule: DrainRule) -> FinishRotations:
    """Return who revokes the old keys of rotations of the target in use."""
    wiring = run.wiring
    return FinishRotations(
        server=wiring.server,
        journal=wiring.journal,
        locks=wiring.locks,
        clock=wiring.clock,
        reporter=run.terminal,
        reader=reader,
        elsewhere=made_elsewhere(run),
        verifier=verifier(run),
        revoker=revoker(run),
        rule=rule,
    )


def revoker(run: Run) -> RevokeKeys:
    """Return who revokes keys."""
    wiring = run.wiring
    return RevokeKeys(
        wiring.server, wiring.journal, wiring.locks, wiring.clock, run.terminal, wiring.actor, run.flags.reason
    )


def verifier(run: Run) -> VerifyKey:
    """Return who asks whether a secret authenticates."""
    return VerifyKey(run.wiring.server, run.wiring.clock, run.terminal)


# --- how it is shown ----------------------------------------------------------------------------


def result_of(rotations: Sequence[Rotation]) -> Result:
    """Return what is shown of rotations."""
    errors = [failure(one.error, len(rotations)) for one in rotations if one.error is not None]
    table = Table(("key", "phase", "due", "new", "old"), _cells)
    return Result([_record(one) for one in rotations], errors=errors, table=table)


def _record(one: Rotation) -> Record:
    return {
        "old": key_record(one.old),
        "new": None if one.new is None else key_record(one.new),
        "phase": str(one.phase),
        "due": time_or_none(one.due),
    }


def _cells(record: Record) -> list[str]:
    old, new, due = record["old"], record["new"], record["due"]
    assert isinstance(old, dict)
    name = escape_unsafe(f"{old['owner']}/{old['name']}")
    new_id = str(new["id"]) if isinstance(new, dict) else "-"
    when = "-" if due is None else relative(due, datetime.now(UTC))
    return [name, str(record["phase"]), when, new_id, str(old["id"])]
