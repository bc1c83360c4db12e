"""The order of effects of a successor: made, proven, delivered, promoted; each durable before the next.

Knows no HTTP, no store's files, no terminal; and not why the old key is succeeded, nor what becomes of it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import whereabouts
from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import RECOVER_HINT, BlnkctlError, Incomplete, StoreUnavailable
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.secret import Secret
from blnkctl.domain.sinks import parse_sink
from blnkctl.domain.successions import Problem, Succession, SuccessionKind, SuccessionPhase, Way
from blnkctl.usecases.guards import revoke_for_certain

if TYPE_CHECKING:
    from datetime import datetime

    from blnkctl.ports import Clock, Journal, KeyServer, SecretStore
    from blnkctl.usecases.deliver import DeliverSecret
    from blnkctl.usecases.mint import Minted
    from blnkctl.usecases.secrets import HeldSecrets, VerifyKey

REJECTED = "successor_rejected"
_FLAGS = {Way.NOW: " --now", Way.COMPROMISED: " --compromised", Way.KEEP_OLD: " --keep-old"}


@dataclass(frozen=True, slots=True)
class CarrySuccessor:
    """Carries a succession on from where it is. The caller holds the lock of its owner and name."""

    server: KeyServer
    store: SecretStore
    journal: Journal
    clock: Clock
    held: HeldSecrets
    verifier: VerifyKey
    delivery: DeliverSecret

    def stored(self, succession: Succession, minted: Minted) -> Succession:
        """Return a succession whose new key was minted: the journal said so with the end of the minting."""
        return replace(succession, phase=SuccessionPhase.STORED, new_id=minted.known.id, problem=None)

    def proven(self, succession: Succession) -> Succession:
        """Ask the server with the value that the store gives back.

        Raises:
            Incomplete: the new key is rejected, and was revoked (`successor_rejected`); or that is undecided.
        """
        if succession.phase is not SuccessionPhase.STORED:
            return succession
        known, secret = self._read(succession)
        verification = self.verifier.run(known, secret)
        if verification.authenticates is None:
            raise self._noted(succession, _undecided(succession, known, verification.reason))
        if not verification.authenticates:
            raise self._take_back(succession, known, verification.reason)
        return self._recorded(replace(succession, phase=SuccessionPhase.PROVEN, problem=None))

    def promoted(self, succession: Succession, due: datetime | None) -> Succession:
        """Deliver to every sink that has no receipt yet; then OWNER/NAME means the new key.

        Raises:
            Incomplete: a delivery failed; the old key is untouched, and never due.
        """
        if succession.phase is not SuccessionPhase.PROVEN:
            return succession
        known = self._deliver(succession)
        now = self.clock.now()
        promoted = replace(succession, phase=SuccessionPhase.PROMOTED, promoted_at=now, due=due, problem=None)
        self.journal.promote(promoted, replace(known, awaits_promotion=False, promoted_at=now))
        return promoted

    def is_held(self, succession: Succession) -> bool:
        """Tell whether the secret of its new key is in its store."""
        known = self.journal.find_known(self.server.url, succession.new_id or "")
        return known is not None and self.held.read(known) is not None

    def noted(self, succession: Succession, error: BlnkctlError) -> Succession:
        """Remember why a succession came no further."""
        return self._recorded(replace(succession, problem=as_problem(error)))

    def taken_back(self, succession: Succession) -> Succession:
        """Return a succession whose new key was revoked: it begins anew."""
        return self._recorded(replace(succession, phase=SuccessionPhase.BEGUN, new_id=None))

    def forget_new(self, known: KnownKey) -> None:
        """Drop what is held of a new key that was revoked."""
        self.journal.remember([replace(known, is_revoked=True, revoked_at=self.clock.now())])
        with suppress(StoreUnavailable):
            self.store.delete(EntryName(self.server.url, known.id))

    # --- steps --------------------------------------------------------------------------------

    def _read(self, succession: Succession) -> tuple[KnownKey, Secret]:
        """Return the new key and what its store gives back for it."""
        known = self.journal.find_known(self.server.url, succession.new_id or "")
        secret = None if known is None else self.held.read(known)
        if known is None or secret is None:
            raise self._noted(succession, _not_held(succession))
        return known, secret

    def _deliver(self, succession: Succession) -> KnownKey:
        from blnkctl.usecases.deliver import not_delivered

        known, secret = self._read(succession)
        sinks = [parse_sink(text) for text in succession.sinks]
        done = self.delivery.deliver(self.delivery.outstanding(sinks, known), known, secret)
        failed = [item for item in done if item.error is not None]
        if failed:
            way_on = f"Mend that ({_state_of_old(succession)}), then: {way_on_with(succession)}"
            raise self._noted(succession, not_delivered(known, failed, way_on))
        now = self.journal.find_known(self.server.url, known.id) or known
        if now.is_revoked:  # a delivery can take a minute, in which others revoke
            raise self._noted(succession, _revoked_meanwhile(succession))
        return now

    def _take_back(self, succession: Succession, known: KnownKey, reason: str) -> Incomplete:
        if not revoke_for_certain(self.server, known.id, known.owner):
            return self._noted(succession, _rejected_and_live(succession, known, reason))
        self.forget_new(known)
        begun_anew = replace(succession, phase=SuccessionPhase.BEGUN, new_id=None)
        return self._noted(begun_anew, _rejected(succession, known, reason))

    def _noted(self, succession: Succession, error: Incomplete) -> Incomplete:
        self.noted(succession, error)
        return error

    def _recorded(self, succession: Succession) -> Succession:
        self.journal.record_succession(succession)
        return succession


def as_problem(error: BlnkctlError) -> Problem:
    """Return an error as it is kept with a succession."""
    return Problem(error.code, error.message, error.hint)


def way_on_with(succession: Succession) -> str:
    """Return the command that goes on with a succession."""
    if succession.kind is SuccessionKind.MIGRATE:
        return "blnkctl migrate run PLAN"
    return f"blnkctl keys rotate {succession.old.id}{_FLAGS.get(succession.way, '')}"


def _state_of_old(succession: Succession) -> str:
    what = "was revoked before" if succession.way is Way.COMPROMISED else "is untouched"
    return f"the old key {succession.old.id} {what}"


def _undecided(succession: Succession, known: KnownKey, reason: str) -> Incomplete:
    return Incomplete(
        f"Whether the new key {succession.new_id} works is undecided: {reason}. It is"
        f" {whereabouts(known.store)}; {_state_of_old(succession)}.",
        code="undecided",
        hint=f"To ask again, and go on from here: {way_on_with(succession)}",
        target=succession.new_id,
    )


def _revoked_meanwhile(succession: Succession) -> Incomplete:
    return Incomplete(
        f"The new key {succession.new_id} was revoked while it was delivered; {_state_of_old(succession)}.",
        code="successor_gone",
        hint=f"To make another: {way_on_with(succession)}",
        target=succession.old.id,
    )


def _not_held(succession: Succession) -> Incomplete:
    return Incomplete(
        f"The secret of the new key {succession.new_id} is not where it was kept any more;"
        f" {_state_of_old(succession)}.",
        code="secret_not_held",
        hint="Bring that back and run this again; or revoke the new key and make another: --take-over",
        target=succession.new_id,
    )


def _rejected(succession: Succession, known: KnownKey, reason: str) -> Incomplete:
    return Incomplete(
        f"The new key {known.id} does not work: {reason}. It was revoked again; {_state_of_old(succession)}.",
        code=REJECTED,
        hint=f"Look at the server with: blnkctl doctor; then: {way_on_with(succession)}",
        target=succession.old.id,
    )


def _rejected_and_live(succession: Succession, known: KnownKey, reason: str) -> Incomplete:
    return Incomplete(
        f"The new key {known.id} does not work: {reason}. It could not be revoked; {_state_of_old(succession)}.",
        code="successor_not_revoked",
        hint=f"Revoke it: blnkctl keys revoke {known.id}. {RECOVER_HINT}",
        target=known.id,
    )
