"""Deleting the local copy of a secret that no server accepts any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import UsageError
from blnkctl.domain.keys import KeyStatus
from blnkctl.domain.servers import ServerUrl
from blnkctl.usecases.escrows import settle_escrows
from blnkctl.usecases.guards import key_lock
from blnkctl.usecases.secrets import another_store
from blnkctl.usecases.upkeep import without_secret
from blnkctl.usecases.views import KeyView

if TYPE_CHECKING:
    from blnkctl.ports import Clock, Journal, Locks, SecretStore

ENDED = (KeyStatus.REVOKED, KeyStatus.EXPIRED)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """One key; `was_held` tells whether its secret was in a store."""

    view: KeyView
    was_held: bool


@dataclass(frozen=True, slots=True)
class ForgetSecrets:
    """Deletes secrets of keys that are revoked or expired, from the store that the index names, else `store`."""

    server: ServerUrl
    stores: Mapping[str, SecretStore]
    store: SecretStore
    journal: Journal
    locks: Locks
    clock: Clock

    def check(self, views: Sequence[KeyView]) -> None:
        """Raise UsageError unless every key has ended: the only copy of a live one must not go."""
        for view in views:
            if view.status not in ENDED:
                raise UsageError(
                    f"{view.key.id} is {view.status}: the copy here may be the only one. Nothing was deleted.",
                    code="key_is_live",
                    hint=f"Revoke it first: blnkctl keys revoke {view.key.id}",
                    target=view.key.id,
                )

    def run(self, view: KeyView) -> Forgotten:
        """Delete one key's secret.

        Raises:
            StoreUnavailable: the store failed, or is not the one that the secret was put into; run it again.
        """
        known = view.known
        store = self.stores.get(known.store) if known is not None and known.store is not None else None
        store = store or self.store
        with self.locks.hold([key_lock(self.server, view.key.id)], f"the key {view.key.id}"):
            if known is not None and known.is_stored and known.store_id != store.store_id:
                raise another_store(known)
            settle_escrows([store], self.journal, self.clock.now())
            was_held = store.delete(EntryName(self.server, view.key.id))
            if known is not None:
                known = without_secret(known)
                self.journal.remember([known])
        return Forgotten(replace(view, known=known), was_held)
