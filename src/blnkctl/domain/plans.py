"""A plan of a migration: what becomes of each key over an upgrade of Core, and why. Pure.

A plan is reviewed and edited by people, so its digest covers all that they may not edit.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, KeyStatus, StorageScheme, scheme_of

PLAN_KIND, PLAN_VERSION = "blnkctl-plan", 1
_EDITABLE = ("action", "sinks")
_EDITABLE_OF_NEW = ("scopes", "expires_at")
_SCHEMES = (StorageScheme.PLAINTEXT, StorageScheme.SHA256, StorageScheme.BCRYPT)


class Action(StrEnum):
    """What is done about a key."""

    RECREATE = "recreate"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class PlanHeader:
    """For which server a plan is, as it was then, and for which Core. `for_core` None: for that server's own."""

    url: str
    generation: Generation
    for_core: str | None
    created_at: datetime

    @property
    def goal(self) -> Generation:
        """The generation that the new keys are for."""
        return self.generation if self.for_core is None else Generation.of_version(self.for_core)


@dataclass(frozen=True, slots=True)
class PlanItem:
    """One key of a plan. `scopes` and `expires_at` are the new key's, `sinks` where it goes."""

    key: ApiKey
    action: Action
    reason: str
    scopes: tuple[str, ...]
    expires_at: datetime
    sinks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """A key of an owner's list, as a plan sees it: whether a live successor carries its mark."""

    key: ApiKey
    status: KeyStatus
    is_superseded: bool


def plan_owner(keys: Sequence[Judged], goal: Generation, sinks: Mapping[str, Sequence[str]]) -> list[PlanItem]:
    """Return what becomes of each key of one owner on a server of the goal; `sinks` by id."""
    fates = [(one, _fate(one, goal)) for one in keys]
    dying = Counter(one.key.name for one, fate in fates if fate is None)
    alive: dict[str, list[ApiKey]] = defaultdict(list)
    for one, fate in fates:
        if fate == "alive":
            alive[one.key.name].append(one.key)
    return [_item(one.key, fate, dying, alive, sinks.get(one.key.id, ())) for one, fate in fates]


def _item(
    key: ApiKey, fate: str | None, dying: Counter[str], alive: Mapping[str, Sequence[ApiKey]], sinks: Sequence[str]
) -> PlanItem:
    action = Action.RECREATE if fate is None else Action.SKIP
    reason = fate or "; ".join([_cause_of_death(key), *_oddities(key, dying, alive)])
    return PlanItem(key, action, reason, key.scopes, key.expires_at.replace(microsecond=0), tuple(sinks))


def _fate(one: Judged, goal: Generation) -> str | None:
    """Return why a key is left as it is; None: it dies, and is recreated."""
    if one.status in (KeyStatus.REVOKED, KeyStatus.EXPIRED):
        return str(one.status)
    if not one.key.can_be_made:
        return "without an owner or a name, as no server makes one"
    if one.key.scheme is StorageScheme.UNKNOWN:
        return "stored in a form that is not known"
    if one.key.scheme is scheme_of(goal):
        return "alive"
    if _SCHEMES.index(one.key.scheme) > _SCHEMES.index(scheme_of(goal)):
        return "made by a newer Core"
    return "superseded" if one.is_superseded else None


def _cause_of_death(key: ApiKey) -> str:
    """Name the upgrade that kills a key: one in plain text is dead from 0.12.0 on, however far the upgrade goes."""
    return "dead by 0.12.0" if key.scheme is StorageScheme.PLAINTEXT else "dead by 0.13.2"


def _oddities(key: ApiKey, dying: Counter[str], alive: Mapping[str, Sequence[ApiKey]]) -> list[str]:
    found = []
    if dying[key.name] > 1:
        found.append(f"duplicate name ({dying[key.name]} of them)")
    newer = [one.id for one in alive.get(key.name, ()) if one.created_at > key.created_at]
    if newer:
        found.append(f"possible successor made elsewhere: {', '.join(newer)}")
    return found


class PlanDigest:
    """The digest of a plan's JSON: SHA-256 over the canonical form of all that may not be edited."""

    def __init__(self) -> None:
        self._items = hashlib.sha256()

    def add(self, item: Mapping[str, object]) -> None:
        """Take in an item."""
        new = item.get("new")
        fixed = {name: value for name, value in item.items() if name not in (*_EDITABLE, "new")}
        if isinstance(new, Mapping):
            fixed["new"] = {name: value for name, value in new.items() if name not in _EDITABLE_OF_NEW}
        self._items.update(_canonical(fixed))

    def text_under(self, header: Mapping[str, object]) -> str:
        """Return the digest of the items that were taken in, under a header."""
        return hashlib.sha256(self._items.digest() + _canonical(header)).hexdigest()


def _canonical(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
