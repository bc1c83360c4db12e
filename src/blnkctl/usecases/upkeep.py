"""Keeping store and index in step with the server: what may be deleted, and what the index must learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blnkctl.domain.entries import EntryName, is_canary
from blnkctl.domain.errors import StoreUnavailable, UsageError
from blnkctl.domain.keys import ID_PREFIX, ApiKey, KeyStatus
from blnkctl.domain.operations import KnownKey
from blnkctl.usecases.escrows import settle_escrows
from blnkctl.usecases.listing import KeyReader
from blnkctl.usecases.views import KeyView

if TYPE_CHECKING:
    from blnkctl.ports import Clock, Journal, SecretStore

_ENDED = (KeyStatus.REVOKED, KeyStatus.EXPIRED)


@dataclass(frozen=True, slots=True)
class PruneEntry:
    """One entry of the store. `is_deletable` False: it is reported and stays."""

    username: str
    reason: str
    is_deletable: bool


@dataclass(frozen=True, slots=True)
class Prune:
    """Deletes entries that no key needs any more; never one that a complete list does not show."""

    reader: KeyReader
    store: SecretStore
    journal: Journal

    def plan(self) -> list[PruneEntry]:
        """Say what would be deleted and what is odd.

        Raises:
            BlnkctlError: an owner could not be listed; nothing was deleted.
        """
        open_canaries = {operation.canary for operation in self.journal.open_operations()}
        listed = _listed(self.reader)
        plans = []
        for entry in self.store.entries(self.reader.server.url):
            plan = _plan(entry.username, listed, open_canaries)
            if plan is not None:
                plans.append(plan)
        return plans

    def run(self, plans: Sequence[PruneEntry]) -> list[PruneEntry]:
        """Delete what the plan says and return it; the index forgets where those secrets were."""
        url = self.reader.server.url
        done = [plan for plan in plans if plan.is_deletable]
        with self.store.writing():
            for plan in done:
                self.store.delete(EntryName(url, plan.username))
        known = [self.journal.find_known(url, plan.username) for plan in done]
        self.journal.remember(without_secret(key) for key in known if key is not None)
        return done


def _plan(username: str, listed: dict[str, KeyView], open_canaries: set[str]) -> PruneEntry | None:
    if is_canary(username):
        return None if username in open_canaries else PruneEntry(username, "a leftover canary", True)
    if not username.startswith(ID_PREFIX):
        return None
    view = listed.get(username)
    if view is None:
        return PruneEntry(username, "no list of a known owner shows it: kept", False)
    return PruneEntry(username, f"the key is {view.status}", True) if view.status in _ENDED else None


def _listed(reader: KeyReader) -> dict[str, KeyView]:
    viewpoint = reader.viewpoint()
    views = [view for owner in reader.known_owners() for view in reader.views_of(owner, viewpoint)]
    return {view.key.id: view for view in views}


def without_secret(key: KnownKey) -> KnownKey:
    """Return a key of the index whose secret is held nowhere here."""
    return replace(key, store=None, store_id=None, stored_at=None)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What the index learnt: keys found in the store, and keys that it believed to be there and are not.

    `elsewhere` counts keys that were put into another store of this kind, of which nothing can be said.
    """

    found: tuple[str, ...]
    lost: tuple[str, ...]
    elsewhere: int = 0


@dataclass(frozen=True, slots=True)
class Sync:
    """Rebuilds the index by asking the store for each listed key."""

    reader: KeyReader
    store: SecretStore
    journal: Journal
    clock: Clock

    def run(self) -> SyncResult:
        """Ask the store for every key of every known owner.

        Raises:
            UsageError: no owner is known, so nothing could be listed.
            BlnkctlError: an owner could not be listed, or the store could not be read.
        """
        if not self.reader.known_owners():
            raise UsageError(
                "No owner is known here, so no key can be looked for in the store; the index is as it was.",
                code="no_owner",
                hint="Remember the owners, then run this again: blnkctl owners add O…",
            )
        settle_escrows([self.store], self.journal, self.clock.now())
        compared = [(view, self._is_held(view)) for view in _listed(self.reader).values()]
        found = [view for view, is_held in compared if is_held and not view.is_stored]
        missed = [view.known for view, is_held in compared if not is_held and self._is_of_this_kind(view.known)]
        lost = [key for key in missed if key is not None and key.store_id == self.store.store_id]
        self._record(found, lost)
        elsewhere = len(missed) - len(lost)
        return SyncResult(tuple(view.key.id for view in found), tuple(key.id for key in lost), elsewhere)

    def _record(self, found: Sequence[KeyView], lost: Sequence[KnownKey]) -> None:
        if lost:
            self.journal.remember(without_secret(key) for key in lost)
        if found:
            with self.store.writing():  # a keyring that this journal never used gets its escrow now
                self.journal.remember(self._learnt(view) for view in found)

    def _is_held(self, view: KeyView) -> bool:
        return self.store.holds(EntryName(self.reader.server.url, view.key.id))

    def _is_of_this_kind(self, known: KnownKey | None) -> bool:
        """Only what is believed to be in a store of this kind can be missing from it."""
        return known is not None and known.is_stored and known.store == self.store.kind

    def _learnt(self, view: KeyView) -> KnownKey:
        key: ApiKey = view.key
        return replace(
            KnownKey.of(str(self.reader.server.url), key),
            store=self.store.kind,
            store_id=self.store.store_id,
            fingerprint=self._fingerprint(key.id),
            stored_at=key.created_at,
        )

    def _fingerprint(self, key_id: str) -> str | None:
        try:
            secret = self.store.get(EntryName(self.reader.server.url, key_id))
        except StoreUnavailable:
            return None
        return None if secret is None else secret.fingerprint()
