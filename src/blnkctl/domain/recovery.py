"""What `recover` decides about a create whose end is not recorded: one table, as a pure function.

The order of effects makes the table complete: whatever died, the list, the escrow and the stores tell what to do.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum

PROXY_PATIENCE = timedelta(seconds=60)


class Sighting(Enum):
    """What the server's list shows of our mark."""

    UNLISTABLE = "before 0.12 nothing can be listed"
    ABSENT = "absent"
    ONCE = "one live row"
    TWICE = "several live rows"
    ENDED = "only revoked or expired rows"


class EscrowState(Enum):
    """What is left of the escrow."""

    NONE = "none"
    READABLE = "readable"
    SEALED = "complete, but no identity here can open it"
    LOCKED = "not readable now"


class StoreAnswer(Enum):
    """What the operation's own store, the only one it may have written to, said of the id that the list shows."""

    HAS_IT = "it has it"
    HAS_NOT = "it was read, and has it not"
    UNREADABLE = "it cannot be read, is missing, or is another one"


class Decision(Enum):
    """What is done about the operation."""

    LEAVE_LOCKED = "the escrow cannot be read now: unlock the store, then recover again"
    LEAVE_STORE = "a store cannot be read now, or has another recipient: nothing is decided without it"
    WAIT = "a proxy may still deliver the request"
    CLOSE = "it was never made"
    RESTORED = "the server lost a row that it had: it was restored from a copy"
    ADOPT = "the secret is in the store"
    REVOKE = "the key is live and its secret is nowhere"
    STORE = "the escrow holds the secret"
    TOUCH_NOTHING = "which key is ours cannot be told"
    DROP = "the key is revoked or expired: its copies are dropped"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the decision needs."""

    sighting: Sighting
    escrow: EscrowState
    store: StoreAnswer
    since_sent: timedelta


def decide(evidence: Evidence) -> Decision:
    """Return the decision of the table for this evidence."""
    if evidence.escrow is EscrowState.LOCKED:
        return Decision.LEAVE_LOCKED
    match evidence.sighting:
        case Sighting.ENDED:
            return Decision.DROP
        case Sighting.ABSENT:
            return _decide_absent(evidence)
        case Sighting.ONCE:
            return _decide_once(evidence)
        case Sighting.TWICE | Sighting.UNLISTABLE:
            return _decide_by_escrow_alone(evidence)


def _decide_absent(evidence: Evidence) -> Decision:
    if evidence.escrow is not EscrowState.NONE:
        return Decision.RESTORED
    return Decision.WAIT if evidence.since_sent < PROXY_PATIENCE else Decision.CLOSE


def _decide_once(evidence: Evidence) -> Decision:
    if evidence.escrow is not EscrowState.NONE:
        return Decision.STORE
    return {
        StoreAnswer.HAS_IT: Decision.ADOPT,
        StoreAnswer.HAS_NOT: Decision.REVOKE,
        StoreAnswer.UNREADABLE: Decision.LEAVE_STORE,
    }[evidence.store]


def _decide_by_escrow_alone(evidence: Evidence) -> Decision:
    if evidence.escrow is EscrowState.SEALED:
        return Decision.LEAVE_LOCKED
    return Decision.STORE if evidence.escrow is EscrowState.READABLE else Decision.TOUCH_NOTHING
