"""Escrows whose operations ended: each goes when the store is proven to keep what it was given."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from blnkctl.domain.errors import Busy, StoreUnavailable

if TYPE_CHECKING:
    from blnkctl.ports import Journal, SecretStore


def settle_escrows(stores: Iterable[SecretStore], journal: Journal) -> None:
    """Settle what ended here; another machine's escrows, unknown to this journal, are its own.

    A keyring may forget what it said it had kept; its escrow is read back by a later command (this one), which also
    puts back what was lost. What cannot be settled now is left to the next.
    """
    for store in stores:
        with suppress(StoreUnavailable):
            for operation_id, key in journal.ended(store.pending_escrows()).items():
                with suppress(StoreUnavailable, Busy):
                    if key is not None and key.is_stored and key.store == store.kind:
                        store.settle_escrow(operation_id)
                    else:
                        store.drop_escrow(operation_id)
