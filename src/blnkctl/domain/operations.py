"""What the journal keeps: operations that were begun, and the keys known here. Never a secret."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from blnkctl.domain.keys import ApiKey, KeySpec


class OperationKind(StrEnum):
    """What an operation changes."""

    CREATE = "create"
    REVOKE = "revoke"
    IMPORT = "import"
    ROTATE = "rotate"
    MIGRATE = "migrate"


class Phase(StrEnum):
    """How far an operation came, as last recorded durably."""

    PREFLIGHT = "preflight"
    SENT = "sent"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Operation:
    """One change of one key.

    `rows_before` is how many rows the owner had, `store_id` which store was to keep it, `succeeds` the id of the key
    that the new one succeeds. `sinks` are where it was to go, and `context` what `{context}` stands for in them.
    """

    id: str
    kind: OperationKind
    server: str
    owner: str
    name: str
    phase: Phase
    started_at: datetime
    key_id: str | None = None
    spec: KeySpec | None = None
    store: str | None = None
    store_id: str | None = None
    rows_before: int | None = None
    sent_at: datetime | None = None
    succeeds: str | None = None
    sinks: tuple[str, ...] = ()
    context: str | None = None

    @property
    def canary(self) -> str:
        """The name of the store entry that its preflight writes and drops."""
        return f"canary-{self.id}"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key of the index. `stored_at` is when its secret was proven to be in `store`; None: it is not held here.

    A successor `awaits_promotion` until it is proven and delivered: OWNER/NAME means it from `promoted_at` on.
    """

    server: str
    id: str
    owner: str
    name: str
    scopes: tuple[str, ...]
    expires_at: datetime
    created_at: datetime
    revoked_at: datetime | None = None
    is_revoked: bool = False
    store: str | None = None
    store_id: str | None = None
    fingerprint: str | None = None
    stored_at: datetime | None = None
    awaits_promotion: bool = False
    promoted_at: datetime | None = None

    @classmethod
    def of(cls, server: str, key: ApiKey) -> "KnownKey":
        """Return a listed key as the index knows it that holds no secret of it."""
        return cls(
            server=server,
            id=key.id,
            owner=key.owner,
            name=key.name,
            scopes=key.scopes,
            expires_at=key.expires_at,
            created_at=key.created_at,
            is_revoked=key.is_revoked,
            revoked_at=key.revoked_at,
        )

    @property
    def is_stored(self) -> bool:
        """Whether the index says that its secret is held here."""
        return self.stored_at is not None
