"""Rows of the tables as values of the domain, and back. A row that no blnkctl wrote raises ValueError."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from blnkctl.domain.keys import ApiKey, KeySpec, StorageScheme
from blnkctl.domain.operations import KnownKey, Operation, OperationKind, Phase
from blnkctl.domain.times import format_timestamp, parse_timestamp

if TYPE_CHECKING:
    from blnkctl.domain.receipts import Receipt
    from blnkctl.domain.successions import Succession

SqlRow = tuple[object, ...]
OPERATION = (
    "id, kind, server, owner, name, phase, started_at, key_id, scopes, expires_at, store, store_id, rows_before,"
    " sent_at, succeeds, sinks, context"
)
KEY = (
    "server, id, owner, name, scopes, expires_at, created_at, is_revoked, revoked_at, store, store_id, fingerprint,"
    " stored_at, awaits_promotion, promoted_at"
)
RECEIPT = "key_id, sink, target, fingerprint, delivered_at, verified"
SUCCESSION = (
    "server, old_id, old, kind, way, phase, scopes, expires_at, started_at, sinks, new_id, promoted_at, due,"
    " ended_at, problem, actor, reason, plan, owner, verified_at"
)


def placeholders(values: SqlRow) -> str:
    """Return as many question marks as there are values."""
    return ", ".join("?" for _ in values)


def time_text(moment: datetime | None) -> str | None:
    """Return a moment as it is kept."""
    return None if moment is None else format_timestamp(moment)


def from_operation(operation: Operation) -> SqlRow:
    """Return the row of an operation, in the order of `OPERATION`."""
    spec = operation.spec
    return (
        operation.id,
        operation.kind.value,
        operation.server,
        operation.owner,
        operation.name,
        operation.phase.value,
        time_text(operation.started_at),
        operation.key_id,
        None if spec is None else json.dumps(spec.scopes),
        None if spec is None else time_text(spec.expires_at),
        operation.store,
        operation.store_id,
        operation.rows_before,
        time_text(operation.sent_at),
        operation.succeeds,
        json.dumps(operation.sinks),
        operation.context,
    )


def to_operation(row: SqlRow) -> Operation:
    """Read a row of `OPERATION`."""
    owner, name, scopes = str(row[3]), str(row[4]), row[8]
    spec = None if scopes is None else KeySpec(name, owner, tuple(json.loads(str(scopes))), _certain(row[9]))
    return Operation(
        id=str(row[0]),
        kind=OperationKind(str(row[1])),
        server=str(row[2]),
        owner=owner,
        name=name,
        phase=Phase(str(row[5])),
        started_at=_certain(row[6]),
        key_id=_text(row[7]),
        spec=spec,
        store=_text(row[10]),
        store_id=_text(row[11]),
        rows_before=None if row[12] is None else int(str(row[12])),
        sent_at=_moment(row[13]),
        succeeds=_text(row[14]),
        sinks=tuple(json.loads(str(row[15]))),
        context=_text(row[16]),
    )


def from_key(key: KnownKey) -> SqlRow:
    """Return the row of a key, in the order of `KEY`."""
    return (
        key.server,
        key.id,
        key.owner,
        key.name,
        json.dumps(key.scopes),
        time_text(key.expires_at),
        time_text(key.created_at),
        int(key.is_revoked),
        time_text(key.revoked_at),
        key.store,
        key.store_id,
        key.fingerprint,
        time_text(key.stored_at),
        int(key.awaits_promotion),
        time_text(key.promoted_at),
    )


def to_key(row: SqlRow) -> KnownKey:
    """Read a row of `KEY`."""
    return KnownKey(
        server=str(row[0]),
        id=str(row[1]),
        owner=str(row[2]),
        name=str(row[3]),
        scopes=tuple(json.loads(str(row[4]))),
        expires_at=_certain(row[5]),
        created_at=_certain(row[6]),
        is_revoked=bool(row[7]),
        revoked_at=_moment(row[8]),
        store=_text(row[9]),
        store_id=_text(row[10]),
        fingerprint=_text(row[11]),
        stored_at=_moment(row[12]),
        awaits_promotion=bool(row[13]),
        promoted_at=_moment(row[14]),
    )


def from_receipt(receipt: Receipt) -> SqlRow:
    """Return the row of a receipt, in the order of `RECEIPT`."""
    return (
        receipt.key_id,
        receipt.sink,
        receipt.target,
        receipt.fingerprint,
        time_text(receipt.delivered_at),
        None if receipt.verified is None else int(receipt.verified),
    )


def to_receipt(row: SqlRow) -> Receipt:
    """Read a row of `RECEIPT`."""
    from blnkctl.domain.receipts import Receipt  # here, as most lists have none

    return Receipt(
        key_id=str(row[0]),
        sink=str(row[1]),
        target=str(row[2]),
        fingerprint=str(row[3]),
        delivered_at=_certain(row[4]),
        verified=None if row[5] is None else bool(row[5]),
    )


def from_succession(one: Succession) -> SqlRow:
    """Return the row of a succession, in the order of `SUCCESSION`."""
    problem = one.problem
    return (
        one.server,
        one.old.id,
        _key_text(one.old),
        one.kind.value,
        one.way.value,
        one.phase.value,
        json.dumps(one.scopes),
        time_text(one.expires_at),
        time_text(one.started_at),
        json.dumps(one.sinks),
        one.new_id,
        time_text(one.promoted_at),
        time_text(one.due),
        time_text(one.ended_at),
        None if problem is None else json.dumps((problem.code, problem.message, problem.hint)),
        one.actor,
        one.reason,
        one.plan,
        one.old.owner,
        time_text(one.verified_at),
    )


def to_succession(row: SqlRow) -> Succession:
    """Read a row of `SUCCESSION`."""
    from blnkctl.domain.successions import Problem, Succession, SuccessionKind, SuccessionPhase, Way

    return Succession(
        server=str(row[0]),
        old=_to_listed(str(row[1]), str(row[2])),
        kind=SuccessionKind(str(row[3])),
        way=Way(str(row[4])),
        phase=SuccessionPhase(str(row[5])),
        scopes=tuple(json.loads(str(row[6]))),
        expires_at=_certain(row[7]),
        started_at=_certain(row[8]),
        sinks=tuple(json.loads(str(row[9]))),
        new_id=_text(row[10]),
        promoted_at=_moment(row[11]),
        due=_moment(row[12]),
        ended_at=_moment(row[13]),
        problem=None if row[14] is None else Problem(*json.loads(str(row[14]))),
        actor=str(row[15]),
        reason=_text(row[16]),
        plan=_text(row[17]),
        verified_at=_moment(row[19]),
    )


def _key_text(key: ApiKey) -> str:
    times = [time_text(moment) for moment in (key.expires_at, key.created_at, key.last_used_at, key.revoked_at)]
    return json.dumps([key.name, key.owner, key.scopes, *times, key.is_revoked, key.scheme.value])


def _to_listed(key_id: str, text: str) -> ApiKey:
    name, owner, scopes, expires_at, created_at, last_used_at, revoked_at, is_revoked, scheme = json.loads(text)
    return ApiKey(
        id=key_id,
        name=name,
        owner=owner,
        scopes=tuple(scopes),
        expires_at=_certain(expires_at),
        created_at=_certain(created_at),
        last_used_at=_moment(last_used_at),
        is_revoked=is_revoked,
        revoked_at=_moment(revoked_at),
        scheme=StorageScheme(scheme),
    )


def _moment(text: object) -> datetime | None:
    return None if text is None else parse_timestamp(str(text))


def _certain(text: object) -> datetime:
    moment = _moment(text)
    if moment is None:
        raise ValueError("a row without its time")
    return moment


def _text(value: object) -> str | None:
    return None if value is None else str(value)
