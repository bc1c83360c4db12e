"""What a key is. `ApiKey` has no field for a secret; `IssuedKey` is the one value that carries one."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from blnkctl.domain.generations import Generation
from blnkctl.domain.secret import Secret

ID_PREFIX = "api_key_"
_ID = re.compile(r"api_key_[A-Za-z0-9_-]{1,100}", re.ASCII)
_PLAINTEXT = re.compile(r"[A-Za-z0-9_-]{43}=", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_BCRYPT = re.compile(r"\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}", re.ASCII)


class StorageScheme(StrEnum):
    """How a server stored a key; it tells which versions can still accept it."""

    PLAINTEXT = "plaintext"
    SHA256 = "sha256"
    BCRYPT = "bcrypt"
    UNKNOWN = "unknown"


class KeyStatus(StrEnum):
    """What a key is good for now; the first that fits, in this order."""

    REVOKED = "revoked"
    EXPIRED = "expired"
    DEAD = "dead"
    SUPERSEDED = "superseded"
    ACTIVE = "active"


LIVE = frozenset({KeyStatus.ACTIVE, KeyStatus.SUPERSEDED})


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A row of the server's list, without its stored form. Times are UTC, to the microsecond; None is never."""

    id: str
    name: str
    owner: str
    scopes: tuple[str, ...]
    expires_at: datetime
    created_at: datetime
    last_used_at: datetime | None
    is_revoked: bool
    revoked_at: datetime | None
    scheme: StorageScheme

    def is_expired(self, now: datetime) -> bool:
        """Tell whether its time is over."""
        return self.expires_at <= now

    @property
    def can_be_made(self) -> bool:
        """Whether a server would make it: a row that was written by hand may lack what it asks for."""
        return bool(self.owner and self.name)


@dataclass(frozen=True, slots=True)
class KeySpec:
    """What is asked of the server: names and scopes as sent, the expiry carrying the mark in its microseconds."""

    name: str
    owner: str
    scopes: tuple[str, ...]
    expires_at: datetime

    def matches(self, key: ApiKey) -> bool:
        """Tell whether a listed row is what was asked for, to the microsecond."""
        return (key.name, key.owner, key.scopes, key.expires_at) == (
            self.name,
            self.owner,
            self.scopes,
            self.expires_at,
        )


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key as the server answered its creation: the row, and the secret that is shown this once."""

    key: ApiKey
    secret: Secret


def is_key_id(text: str) -> bool:
    """Tell whether text is an id as servers make them; anything else is never used in a path or a file's name."""
    return _ID.fullmatch(text) is not None


def classify_stored_form(stored: str) -> StorageScheme:
    """Tell from the shape of the list's `key` field how the row was stored. The field itself is secret material."""
    if _BCRYPT.fullmatch(stored):
        return StorageScheme.BCRYPT
    if _SHA256.fullmatch(stored):
        return StorageScheme.SHA256
    if _PLAINTEXT.fullmatch(stored):
        return StorageScheme.PLAINTEXT
    return StorageScheme.UNKNOWN


def scheme_of(generation: Generation) -> StorageScheme:
    """Return the one scheme that a server of this generation writes and accepts."""
    if generation is Generation.BEFORE_0_12:
        return StorageScheme.PLAINTEXT
    if generation in (Generation.FROM_0_12, Generation.FROM_0_13_0):
        return StorageScheme.SHA256
    return StorageScheme.BCRYPT


def status_of(key: ApiKey, generation: Generation, now: datetime, *, superseded: bool = False) -> KeyStatus:
    """Return the first status that fits."""
    if key.is_revoked:
        return KeyStatus.REVOKED
    if key.is_expired(now):
        return KeyStatus.EXPIRED
    if key.scheme not in (scheme_of(generation), StorageScheme.UNKNOWN):
        return KeyStatus.DEAD
    return KeyStatus.SUPERSEDED if superseded else KeyStatus.ACTIVE
