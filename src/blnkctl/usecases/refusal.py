"""Waiting until every server process refuses a revoked key: by its secret where that is held, else by time alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blnkctl.domain.errors import BlnkctlError
from blnkctl.usecases.revoke import PROOF_LIMIT, ProveRevoked, Revocation
from blnkctl.usecases.views import KeyView

if TYPE_CHECKING:
    from blnkctl.domain.secret import Secret
    from blnkctl.ports import Clock, KeyServer, Reporter
    from blnkctl.usecases.secrets import HeldSecrets

_SECONDS = int(PROOF_LIMIT.total_seconds())
_MINUTES = _SECONDS // 60


@dataclass(frozen=True, slots=True)
class AwaitRefusal:
    """Waits after a revoke; that it was in vain stops nothing."""

    server: KeyServer
    clock: Clock
    reporter: Reporter
    held: HeldSecrets
    progress: Callable[[int, int], None] = lambda _done, _total: None

    def run(self, revocation: Revocation, view: KeyView) -> BlnkctlError | None:
        """Return why it is not certain that every server process refuses the key."""
        secret = self._secret_of(view)
        if secret is None:
            self._wait_blindly(view.key.id)
            return None
        self.reporter.note(
            f"{view.key.id} is revoked. Waiting until every server process refuses it: over a minute,"
            f" {_MINUTES} at most."
        )
        prover = ProveRevoked(self.server, self.clock)
        return prover.run(revocation, secret, PROOF_LIMIT, self.progress).error

    def _wait_blindly(self, key_id: str) -> None:
        self.reporter.warn(
            f"{key_id} is revoked. Its secret is not held here, so nothing proves that it is refused: waiting"
            f" {_MINUTES} minutes, longer than any server process remembers a key."
        )
        for second in range(_SECONDS):
            self.progress(second, _SECONDS)
            self.clock.sleep(1)

    def _secret_of(self, view: KeyView) -> Secret | None:
        try:
            return None if view.known is None else self.held.of(view.known)
        except BlnkctlError:
            return None
