"""What a secret store keeps, and how it is named; what is found in an escrow."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from blnkctl.domain.keys import KeySpec
from blnkctl.domain.recovery import EscrowState
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import ServerUrl

ADMIN = "admin"
_CANARY = "canary-"


def is_canary(username: str) -> bool:
    """Tell whether an entry is one that a preflight writes and drops."""
    return username.startswith(_CANARY)


@dataclass(frozen=True, slots=True)
class EntryName:
    """The name of an entry of a secret store: a server's URL and a username (a key's id, `admin`, a canary)."""

    server: ServerUrl
    username: str


@dataclass(frozen=True, slots=True)
class EscrowedKey:
    """What the escrow holds: the id, what was asked for, and the secret."""

    key_id: str
    spec: KeySpec
    created_at: datetime
    secret: Secret


@dataclass(frozen=True, slots=True)
class EscrowReading:
    """What was found; `key` only where it is readable, `problem` where it is not."""

    state: EscrowState
    key: EscrowedKey | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """A store as it is.

    `entries` counts every server's, None where it cannot; `backend` is what keeps them; `latency` is seconds for
    reading, None where nothing was read; `recipients` are the public keys that can read an age store.
    """

    kind: str
    state: str
    entries: int | None
    identity: str | None
    directory: Path | None
    recipients: tuple[str, ...]
    backend: str
    latency: float | None = None
    problem: str | None = None
