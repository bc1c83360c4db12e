"""Adopting a secret that was minted elsewhere: proven to be the key's own, stored, read back, recorded.

Nothing is changed on the server, so nothing here is ever revoked. Knows no HTTP, no store's files, no terminal.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blnkctl.domain.entries import EntryName
from blnkctl.domain.errors import (
    RECOVER_HINT,
    BlnkctlError,
    GateTripped,
    Incomplete,
    StoreUnavailable,
    UsageError,
)
from blnkctl.domain.keys import LIVE, KeyStatus
from blnkctl.domain.operations import KnownKey, Operation, OperationKind, Phase
from blnkctl.domain.secret import Secret
from blnkctl.usecases.guards import key_lock, operation_lock, telling
from blnkctl.usecases.mint import known_from
from blnkctl.usecases.views import KeyView

if TYPE_CHECKING:
    from blnkctl.domain.stored_forms import StoredForm
    from blnkctl.ports import Clock, Deferral, Journal, KeyServer, Locks, Reporter, SecretStore, SlowForms

_WHY_ENDED = {
    KeyStatus.REVOKED: "it is revoked",
    KeyStatus.EXPIRED: "it has expired",
    KeyStatus.DEAD: "this server accepts keys of its old form no more",
}


@dataclass(frozen=True, slots=True)
class Adoption:
    """The key; `changed` is False where its secret was stored already."""

    view: KeyView
    changed: bool


@dataclass(frozen=True, slots=True)
class AdoptSecret:
    """Stores the secret of a key that was made elsewhere."""

    server: KeyServer
    store: SecretStore
    journal: Journal
    locks: Locks
    clock: Clock
    signals: Deferral
    reporter: Reporter
    slow_forms: SlowForms
    actor: str
    reason: str | None = None

    def run(self, views: Sequence[KeyView], secret: Secret) -> Adoption:
        """Adopt a secret as that of the one of these keys that it is.

        Raises:
            GateTripped: it is another key's (`secret_of_another_key`). UsageError: that key is not live.
            StoreUnavailable: the secret could not be kept. Incomplete: it is kept, which could not be recorded.
        """
        view = self._the_one_of(views, secret)
        if view.status not in LIVE:
            raise _ended(view)
        key_id = view.key.id
        with self.locks.hold([key_lock(self.server.url, key_id)], f"the key {key_id}"), self.store.writing():
            if self._is_stored(view, secret):
                self.reporter.note(f"The secret of {key_id} is in the store already.")
                return Adoption(view, changed=False)
            known = self._keep(self._operation(view), view, secret)
        self._tell_if_refused(key_id, secret)
        return Adoption(replace(view, known=known), changed=True)

    # --- whose it is --------------------------------------------------------------------------

    def _the_one_of(self, views: Sequence[KeyView], secret: Secret) -> KeyView:
        """Return the key whose stored form the secret has, a live one first."""
        with telling("Nothing was stored."):
            forms = self._forms_of(views)
        for view in sorted(views, key=lambda view: view.status not in LIVE):
            form = forms.get(view.key.id)
            if form is not None and form.is_of(secret, self.slow_forms.matches):
                return view
        ids = ", ".join(view.key.id for view in views[:5])
        raise GateTripped(
            f"The secret is not that of {ids}. Nothing was stored.",
            code="secret_of_another_key",
            hint="To see whose it is, give the same text to: blnkctl keys identify",
            target=views[0].key.id if len(views) == 1 else None,
        )

    def _forms_of(self, views: Sequence[KeyView]) -> dict[str, StoredForm]:
        ids = {view.key.id for view in views}
        owners = dict.fromkeys(view.key.owner for view in views)
        return {row.id: form for owner in owners for row, form in self.server.list_stored(owner) if row.id in ids}

    def _is_stored(self, view: KeyView, secret: Secret) -> bool:
        known = self.journal.find_known(self.server.url, view.key.id)
        return (
            known is not None
            and known.is_stored
            and (known.store, known.store_id) == (self.store.kind, self.store.store_id)
            and known.fingerprint == secret.fingerprint()
            and self._is_held(EntryName(self.server.url, view.key.id), otherwise=False)
        )

    def _is_held(self, entry: EntryName, *, otherwise: bool) -> bool:
        """Tell whether an entry is there; `otherwise` for one that is damaged, which an import mends."""
        try:
            return self.store.holds(entry)
        except StoreUnavailable:
            return otherwise

    # --- the order of effects -----------------------------------------------------------------

    def _operation(self, view: KeyView) -> Operation:
        return Operation(
            id=secrets.token_hex(8),
            kind=OperationKind.IMPORT,
            server=str(self.server.url),
            owner=view.key.owner,
            name=view.key.name,
            phase=Phase.PREFLIGHT,
            started_at=self.clock.now(),
            key_id=view.key.id,
            store=self.store.kind,
            store_id=self.store.store_id,
        )

    def _keep(self, operation: Operation, view: KeyView, secret: Secret) -> KnownKey:
        with self.locks.hold([operation_lock(operation.id)], "this operation"):
            begun = self._prepare(operation)
            with self.signals.deferred():
                self._store(begun, view, secret)
                return self._record(begun, view, secret)

    def _prepare(self, operation: Operation) -> Operation:
        """Know that the store keeps what it takes, then record what will be put into it."""
        try:
            self.journal.begin(operation, actor=self.actor, reason=self.reason)
            self.store.check_writable(EntryName(self.server.url, operation.canary))
            begun = replace(operation, phase=Phase.SENT, sent_at=self.clock.now())
            self.journal.record_sent(begun)
        except BaseException:
            self._abandon(operation, "preflight failed")
            raise
        return begun

    def _store(self, operation: Operation, view: KeyView, secret: Secret) -> None:
        key = view.key
        entry = EntryName(self.server.url, key.id)
        was_held = self._is_held(entry, otherwise=True)
        about: dict[str, object] = {"id": key.id, "owner": key.owner, "name": key.name}
        try:
            self.store.put(entry, secret, about)
            self.clock.sleep(self.store.settling_seconds)  # there is no escrow: read back what has proven to last
            is_kept = self.store.confirms(entry, secret)
        except StoreUnavailable:
            self._abandon(operation, "could not be stored")
            raise
        if not is_kept:
            with suppress(StoreUnavailable):
                if not was_held:
                    self.store.delete(entry)
            self._abandon(operation, "could not be stored")
            raise _not_kept(key.id)

    def _record(self, operation: Operation, view: KeyView, secret: Secret) -> KnownKey:
        known = known_from(operation, view.key, secret, self.clock.now())
        try:
            self.journal.close_operation(operation.id, "stored", key=known)
        except StoreUnavailable as problem:
            raise Incomplete(
                f"The secret of {view.key.id} is in the store, but that could not be recorded: {problem.message}",
                code="not_recorded",
                hint=f"Mend that, then: {RECOVER_HINT}",
                target=view.key.id,
            ) from None
        return known

    def _abandon(self, operation: Operation, outcome: str) -> None:
        """Close an operation that stored nothing; what cannot be cleaned now is left to `recover`."""
        with suppress(StoreUnavailable):
            self.store.delete(EntryName(self.server.url, operation.canary))
            self.journal.close_operation(operation.id, outcome)

    def _tell_if_refused(self, key_id: str, secret: Secret) -> None:
        try:
            is_refused = self.server.probe(secret).is_rejection
        except BlnkctlError as problem:
            self.reporter.warn(f"{problem.message} Whether the server accepts {key_id} was not told.")
            return
        if is_refused:
            self.reporter.warn(f"The server does not accept {key_id} now. Ask again: blnkctl keys verify {key_id}")


def _not_kept(key_id: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"The store returned another value for {key_id} than it took. The key itself is as it was.",
        code="store_lies",
        hint="Mend the store (`blnkctl doctor`), then run this again.",
        target=key_id,
    )


def _ended(view: KeyView) -> UsageError:
    return UsageError(
        f"{view.key.id} is not live: {_WHY_ENDED[view.status]}. Its secret opens nothing; nothing was stored.",
        code="key_ended",
        hint="Make a new key with: blnkctl keys create",
        target=view.key.id,
    )
