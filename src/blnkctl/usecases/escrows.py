"""Escrows whose operations ended: each goes when the store is proven to keep what it was given."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import Busy, StoreUnavailable
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.servers import parse_server_url

if TYPE_CHECKING:
    from blnkctl.ports import Journal, SecretStore


def settle_escrows(stores: Iterable[SecretStore], journal: Journal, now: datetime) -> None:
    """Settle what ended here; another machine's escrows, unknown to this journal, are its own.

    A keyring may forget what it said it had kept; its escrow is read back by a later command (this one), which also
    puts back what was lost. What cannot be settled now is left to the next.
    """
    for store in stores:
        with suppress(StoreUnavailable):
            for operation_id, key in journal.ended(store.pending_escrows()).items():
                with suppress(StoreUnavailable, Busy):
                    _settle(store, journal, operation_id, key, now)


def _settle(store: SecretStore, journal: Journal, operation_id: str, key: KnownKey | None, now: datetime) -> None:
    """Drop an escrow; that of a key that works goes only when the secret is read back, whatever the index says."""
    if key is None or key.is_revoked or key.expires_at <= now:
        store.drop_escrow(operation_id)
        return
    entry = EntryName(parse_server_url(key.server), key.id)
    store.settle_escrow(operation_id, entry, key.fingerprint)
    if not key.is_stored and store.holds(entry):
        found = replace(key, store=store.kind, store_id=store.store_id, stored_at=now)
        journal.remember([found])
