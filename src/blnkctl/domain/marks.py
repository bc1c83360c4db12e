"""The mark: the sub-second part of `expires_at`, by which a key is found again in the server's list.

PostgreSQL keeps it exactly (`timestamptz` has microseconds). A create's mark is random; a successor's is computed
from the old key's id, so that any machine can see from the list alone which key succeeds which.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from blnkctl.domain.keys import ApiKey

if TYPE_CHECKING:
    from random import Random

ATTEMPTS = 4
_SPAN = 999_999


def successor_mark(old_id: str, attempt: int) -> int:
    """Return the mark, in microseconds, of the successor of `old_id` at an attempt from 0 to 3."""
    digest = hashlib.sha256(f"{old_id}:{attempt}".encode()).digest()
    return 1 + int.from_bytes(digest[:8], "big") % _SPAN


def successor_marks(old_id: str) -> frozenset[int]:
    """Return every mark that a successor of `old_id` can carry."""
    return frozenset(successor_mark(old_id, attempt) for attempt in range(ATTEMPTS))


def create_mark(rows: Collection[ApiKey], randomness: "Random") -> int:
    """Return a random mark that no listed row of this owner and name carries or could pass on.

    So a row that matches later was not there before, and is nobody's successor.
    """
    taken = {row.expires_at.microsecond for row in rows}
    for row in rows:
        taken |= successor_marks(row.id)
    while (mark := randomness.randint(1, _SPAN)) in taken:
        pass
    return mark


def next_successor_mark(old_id: str, namesakes: Collection[ApiKey], expires_at: datetime) -> int | None:
    """Return the mark of the next attempt to succeed a key, or None where none of the four is free.

    `namesakes` are all rows of its owner and name, itself among them. A mark is not free where a row that expires in
    the same second carries it, or where it could be that of another row's successor.
    """
    second = expires_at.replace(microsecond=0)
    taken = {row.expires_at.microsecond for row in namesakes if row.expires_at.replace(microsecond=0) == second}
    for row in namesakes:
        if row.id != old_id:
            taken |= successor_marks(row.id)
    attempts = (successor_mark(old_id, attempt) for attempt in range(ATTEMPTS))
    return next((mark for mark in attempts if mark not in taken), None)


def with_mark(expires_at: datetime, mark: int) -> datetime:
    """Return the expiry, cut to its second, carrying the mark."""
    return expires_at.replace(microsecond=mark)


def find_successors(rows: Iterable[ApiKey], now: datetime) -> dict[str, str]:
    """Map each superseded key's id to the id of the live key that succeeds it.

    `rows` are all rows of one owner. The chain is followed through rows of any status; a row that fits two old
    keys succeeds neither; of several live successors along it the earliest, then the smallest id, counts.
    """
    return {old_id: _counted(heirs).id for old_id, heirs in _live_heirs(rows, now).items()}


def find_late_twins(rows: Iterable[ApiKey], now: datetime) -> dict[str, str]:
    """Map each live key that succeeds another, and is not the one that counts, to the one that does.

    Two machines rotated one key at once: whoever made the later takes it back.
    """
    heirs_of = _live_heirs(rows, now)
    counted = {old_id: _counted(heirs).id for old_id, heirs in heirs_of.items()}
    counting = set(counted.values())
    return {
        heir.id: counted[old_id] for old_id, heirs in heirs_of.items() for heir in heirs if heir.id not in counting
    }


def _counted(heirs: Sequence[ApiKey]) -> ApiKey:
    return min(heirs, key=lambda heir: (heir.created_at, heir.id))


def _live_heirs(rows: Iterable[ApiKey], now: datetime) -> dict[str, list[ApiKey]]:
    """Map the ids of keys to the live keys that succeed them, at once or through others."""
    by_name: dict[str, list[ApiKey]] = defaultdict(list)
    for row in rows:
        by_name[row.name].append(row)
    found: dict[str, list[ApiKey]] = {}
    for namesakes in by_name.values():
        if len(namesakes) > 1:
            found |= _live_heirs_among(namesakes, now)
    return found


def _live_heirs_among(rows: Sequence[ApiKey], now: datetime) -> dict[str, list[ApiKey]]:
    children = _children(rows)
    live = {row.id: row for row in rows if not row.is_revoked and not row.is_expired(now)}
    heirs_of = {row.id: [live[id_] for id_ in _descendants(row.id, children) if id_ in live] for row in rows}
    return {old_id: heirs for old_id, heirs in heirs_of.items() if heirs}


def _children(rows: Sequence[ApiKey]) -> dict[str, list[str]]:
    """Map each id to its direct successors."""
    parents: dict[int, list[ApiKey]] = defaultdict(list)
    for row in rows:
        for mark in successor_marks(row.id):
            parents[mark].append(row)
    children: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        fits = [old for old in parents.get(row.expires_at.microsecond, ()) if _precedes(old, row)]
        if len(fits) == 1:
            children[fits[0].id].append(row.id)
    return children


def _precedes(old: ApiKey, new: ApiKey) -> bool:
    return old.created_at < new.created_at


def _descendants(id_: str, children: dict[str, list[str]]) -> Iterable[str]:
    seen: dict[str, None] = {}
    waiting = list(children.get(id_, ()))
    while waiting:
        child = waiting.pop()
        if child not in seen:
            seen[child] = None
            waiting.extend(children.get(child, ()))
    return seen
