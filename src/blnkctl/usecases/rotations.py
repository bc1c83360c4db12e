"""What a rotation is asked for, and what becomes of a key by it: values, and nothing done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from blnkctl.domain.keys import KeyStatus
from blnkctl.domain.rotation import ScopeChange
from blnkctl.domain.sinks import SinkAddress, parse_sink
from blnkctl.domain.successions import Succession, Way
from blnkctl.usecases.views import KeyView

if TYPE_CHECKING:
    from blnkctl.domain.errors import BlnkctlError


class RotationPhase(StrEnum):
    """What became of one key's rotation."""

    DONE = "done"
    STAGED = "staged"
    FAILED = "failed"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Rotation:
    """One key's outcome. `due` is when the old key may be revoked; `error` why it is not as it was to be."""

    old: KeyView
    new: KeyView | None
    phase: RotationPhase
    due: datetime | None = None
    error: BlnkctlError | None = None


@dataclass(frozen=True, slots=True)
class RotateRequest:
    """How keys are to be rotated, checked already.

    `sinks` None: those of the old key's receipts. `expires_at` None: the old key's lifetime anew. `expiring_before`:
    the keys were selected because they end before that.
    """

    way: Way
    grace: timedelta
    change: ScopeChange = field(default_factory=ScopeChange)
    expires_at: datetime | None = None
    sinks: tuple[SinkAddress, ...] | None = None
    take_over: bool = False
    expiring_before: datetime | None = None
    actor: str = ""
    reason: str | None = None


def as_it_was_begun(half_done: Succession, request: RotateRequest, now: datetime) -> RotateRequest:
    """Return the request as it was made at first, but for what was typed anew."""
    expires_at = half_done.expires_at.replace(microsecond=0)
    return replace(
        request,
        way=Way.COMPROMISED,
        change=request.change or ScopeChange(replaced_by=half_done.scopes),
        expires_at=request.expires_at or (expires_at if expires_at > now else None),
        sinks=tuple(parse_sink(text) for text in half_done.sinks) if request.sinks is None else request.sinks,
    )


def as_revoked(view: KeyView, now: datetime) -> KeyView:
    """Return the view of a key as it is once it was revoked."""
    key = replace(view.key, is_revoked=True, revoked_at=view.key.revoked_at or now)
    return replace(view, key=key, status=KeyStatus.REVOKED, superseded_by=None)


def as_superseded(view: KeyView, succession: Succession) -> KeyView:
    """Return the view of a key as it is once its successor counts."""
    status = KeyStatus.SUPERSEDED if view.status is KeyStatus.ACTIVE else view.status
    return replace(view, status=status, superseded_by=succession.new_id)
