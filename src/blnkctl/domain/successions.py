"""What the journal keeps of one key that succeeds another: an item is a server and an old id, whatever made it begin.

Never a secret.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from blnkctl.domain.keys import ApiKey


class SuccessionKind(StrEnum):
    """Which command began it, and so which one finishes it."""

    ROTATE = "rotate"
    MIGRATE = "migrate"


class Way(StrEnum):
    """What becomes of the old key."""

    STAGED = "staged"
    NOW = "now"
    KEEP_OLD = "keep_old"
    COMPROMISED = "compromised"


class SuccessionPhase(StrEnum):
    """How far it came, as last recorded durably; in this order."""

    BEGUN = "begun"
    STORED = "stored"
    PROVEN = "proven"
    PROMOTED = "promoted"
    DONE = "done"


OPEN = frozenset({SuccessionPhase.BEGUN, SuccessionPhase.STORED, SuccessionPhase.PROVEN})


@dataclass(frozen=True, slots=True)
class Problem:
    """Why it did not come further, last time."""

    code: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Succession:
    """One key on its way to be succeeded by another.

    `old` is its row as it was when this began. `scopes` and `expires_at` (to the second) are what the new key is
    asked for, `sinks` where it goes. `due` is when the old key may be revoked, once this is promoted; None is never.
    `plan` is the digest of the plan that this is an item of, `verified_at` when the new key was last shown to work.
    """

    server: str
    old: ApiKey
    kind: SuccessionKind
    way: Way
    phase: SuccessionPhase
    scopes: tuple[str, ...]
    expires_at: datetime
    started_at: datetime
    sinks: tuple[str, ...] = ()
    new_id: str | None = None
    promoted_at: datetime | None = None
    due: datetime | None = None
    ended_at: datetime | None = None
    problem: Problem | None = None
    actor: str = ""
    reason: str | None = None
    plan: str | None = None
    verified_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether OWNER/NAME does not mean the new key yet."""
        return self.phase in OPEN

    def is_outdated_by(self, plan: str, made_at: datetime) -> bool:
        """Tell whether a later plan recreates a key that was promoted before: then its successor was lost since."""
        return self.promoted_at is not None and self.promoted_at < made_at and self.plan != plan
