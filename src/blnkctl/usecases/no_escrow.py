"""The half of a store that is about itself and its escrow, for the store `none`: there is neither."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import NO_STORE
from blnkctl.domain.entries import EntryName, EscrowedKey, EscrowReading
from blnkctl.domain.recovery import EscrowState

if TYPE_CHECKING:
    from blnkctl.domain.servers import ServerUrl


class NoEscrow:
    """What of a `SecretStore` needs nothing done."""

    kind = NO_STORE
    store_id = NO_STORE
    bulk_limit: int | None = None
    takes_threads = False
    settling_seconds = 0.0

    def check_readable(self) -> None:
        """Sinks that cannot be read back do not count in the first place."""

    def entries(self, server: ServerUrl) -> Iterable[EntryName]:
        """Return nothing: sinks are not searched."""
        return ()

    def sweep(self) -> None:
        """Leave everything: a sink looks after itself at its next delivery."""

    def reserve_escrow(self, operation: str) -> None:
        """Reserve nothing."""

    def write_escrow(self, operation: str, key: EscrowedKey, server: ServerUrl) -> None:
        """Write nothing."""

    def read_escrow(self, operation: str) -> EscrowReading:
        """Find none."""
        return EscrowReading(EscrowState.NONE)

    def keep_sealed_escrow(self, operation: str, entry: EntryName) -> None:
        """Keep nothing: none is ever sealed."""

    def pending_escrows(self) -> list[str]:
        """Return none."""
        return []

    def settle_escrow(self, operation: str, entry: EntryName, fingerprint: str | None) -> None:
        """Settle nothing."""

    def drop_escrow(self, operation: str) -> None:
        """Drop nothing."""
