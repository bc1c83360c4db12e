"""A key as it is shown: the server's row merged with what this machine knows of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, KeyStatus, StorageScheme, status_of
from blnkctl.domain.marks import find_successors
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.secret import Secret

if TYPE_CHECKING:
    from blnkctl.domain.receipts import Receipt


@dataclass(frozen=True, slots=True)
class KeyView:
    """One key.

    `known` is None where this machine does not hold it, `receipts` are of where it was delivered from here, `secret`
    is there only where it was asked to be shown.
    """

    key: ApiKey
    status: KeyStatus
    superseded_by: str | None = None
    known: KnownKey | None = None
    context: str | None = None
    secret: Secret | None = None
    receipts: tuple[Receipt, ...] = ()

    @property
    def is_stored(self) -> bool:
        """Whether its secret is held here, as far as the index knows."""
        return self.known is not None and self.known.is_stored

    @property
    def full_name(self) -> str:
        """`OWNER/NAME`."""
        return f"{self.key.owner}/{self.key.name}"


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """What is needed to judge rows: the server's generation, the time, the index and receipts by id, the context."""

    generation: Generation
    now: datetime
    index: Mapping[str, KnownKey]
    context: str | None
    receipts: Mapping[str, Sequence[Receipt]] = field(default_factory=dict)

    def judge(self, rows: Sequence[ApiKey]) -> list[KeyView]:
        """Return the views of all rows of one owner."""
        successors = find_successors(rows, self.now)
        return [self.view(row, successors.get(row.id)) for row in rows]

    def view(self, row: ApiKey, successor: str | None = None) -> KeyView:
        """Return the view of one row."""
        status = status_of(row, self.generation, self.now, superseded=successor is not None)
        receipts = tuple(self.receipts.get(row.id, ()))
        return KeyView(row, status, successor, self.index.get(row.id), self.context, receipts=receipts)


def index_by_id(known: Iterable[KnownKey]) -> dict[str, KnownKey]:
    """Return the index by id."""
    return {key.id: key for key in known}


def key_from_index(known: KnownKey) -> ApiKey:
    """Return a key as the index knows it, where the server cannot be asked for it."""
    return ApiKey(
        id=known.id,
        name=known.name,
        owner=known.owner,
        scopes=known.scopes,
        expires_at=known.expires_at,
        created_at=known.created_at,
        last_used_at=None,
        is_revoked=known.is_revoked,
        revoked_at=known.revoked_at,
        scheme=StorageScheme.UNKNOWN,
    )
