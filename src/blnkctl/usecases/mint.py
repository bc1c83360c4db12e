"""The order of effects of a new key: preflight, intent, POST, escrow, store, stored; each durable before the next.

Knows no HTTP, no store's files, no terminal; and not why the key is made.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import NO_STORE, whereabouts
from blnkctl.domain.entries import EntryName, EscrowedKey
from blnkctl.domain.errors import (
    RECOVER_HINT,
    BlnkctlError,
    Incomplete,
    OutcomeUnknown,
    StoreUnavailable,
    UnusableAnswer,
)
from blnkctl.domain.keys import ApiKey, IssuedKey, KeySpec
from blnkctl.domain.operations import KnownKey, Operation, OperationKind, Phase
from blnkctl.domain.secret import Secret
from blnkctl.usecases.guards import operation_lock, revoke_for_certain, telling

if TYPE_CHECKING:
    from blnkctl.ports import Clock, Deferral, Journal, KeyServer, Locks, SecretStore
    from blnkctl.usecases.secrets import VerifyKey


@dataclass(frozen=True, slots=True)
class MintOrder:
    """What is to be made.

    `rows` are the owner's, or at least those of the name, None before 0.12; `rows_before` is how many the owner has,
    where those are not all. `succeeds` is the id of the old key, if any. `sinks` are where the secret goes, `context`
    what stands for `{context}` there.
    """

    kind: OperationKind
    spec: KeySpec
    rows: Sequence[ApiKey] | None
    actor: str
    reason: str | None = None
    succeeds: str | None = None
    rows_before: int | None = None
    sinks: tuple[str, ...] = ()
    context: str | None = None

    @property
    def owners_rows(self) -> int | None:
        """How many rows the owner had before."""
        return self.rows_before if self.rows_before is not None or self.rows is None else len(self.rows)


@dataclass(frozen=True, slots=True)
class Minted:
    """The key as the server answered it, and as the index knows it now."""

    issued: IssuedKey
    known: KnownKey


@dataclass(frozen=True, slots=True)
class MintKey:
    """Makes one key whose secret is stored and proven, or leaves nothing. A bulk change tries its store only once.

    `verifier` tries a secret before it goes where another one stands that still works: given for successors.
    """

    server: KeyServer
    store: SecretStore
    journal: Journal
    locks: Locks
    clock: Clock
    signals: Deferral
    verifier: VerifyKey | None = None
    tries_store: bool = True

    def run(self, order: MintOrder) -> Minted:
        """Make the key. The caller holds whatever lock keeps others from making the same.

        Raises:
            StoreUnavailable: the secret could not be kept; nothing exists that did not before.
            OutcomeUnknown: `recover` finds out. Incomplete: the key exists, its end is not recorded.
        """
        with self.prepared(order) as send:
            return send()

    @contextmanager
    def prepared(self, order: MintOrder) -> Iterator[Callable[[], Minted]]:
        """Know that a key can be kept, then give what makes it, once; what is not made leaves nothing.

        Raises:
            StoreUnavailable: it could not be kept; nothing was sent.
        """
        with self.store.writing():
            operation = self._operation(order)
            mint = replace(self, store=self.store.used_by(operation))
            with self.locks.hold([operation_lock(operation.id)], "this operation"):
                sent: list[Operation] = []

                def send() -> Minted:
                    sent.append(mint._record_intent(operation, order))
                    return mint._send(sent[0], order)

                mint._check_store(operation, order)
                try:
                    yield send
                except BaseException:
                    if not sent:
                        mint._abandon(operation, "preflight failed")
                    raise

    def _operation(self, order: MintOrder) -> Operation:
        return Operation(
            id=secrets.token_hex(8),
            kind=order.kind,
            server=str(self.server.url),
            owner=order.spec.owner,
            name=order.spec.name,
            phase=Phase.PREFLIGHT,
            started_at=self.clock.now(),
            store=self.store.kind,
            store_id=self.store.store_id,
            succeeds=order.succeeds,
            sinks=order.sinks,
            context=order.context,
        )

    def _check_store(self, operation: Operation, order: MintOrder) -> None:
        """Know that the answer can be kept; an interrupt leaves nothing."""
        try:
            self.journal.begin(operation, actor=order.actor, reason=order.reason)
            if self.tries_store:
                self.store.check_writable(EntryName(self.server.url, operation.canary))
            self.store.reserve_escrow(operation.id)
        except BaseException:
            self._abandon(operation, "preflight failed")
            raise

    def _record_intent(self, operation: Operation, order: MintOrder) -> Operation:
        sent = replace(
            operation,
            phase=Phase.SENT,
            spec=order.spec,
            rows_before=order.owners_rows,
            sent_at=self.clock.now(),
        )
        self.journal.record_sent(sent)
        return sent

    def _send(self, sent: Operation, order: MintOrder) -> Minted:
        with self.signals.deferred():
            try:
                issued = self._ask(order.spec, order.rows)
            except UnusableAnswer as answer:
                raise self._undo_unusable(sent, answer, order.rows) from None
            except OutcomeUnknown:
                raise
            except BlnkctlError:
                self._abandon(sent, "refused: none was made")
                raise
            return Minted(issued, self._keep(sent, issued, can_revoke=order.rows is not None))

    def _ask(self, spec: KeySpec, rows: Sequence[ApiKey] | None) -> IssuedKey:
        with telling("Nothing was created."):
            issued = self.server.create(spec)
        if self._was_there(issued.key.id, rows):
            raise UnusableAnswer("for a key that was there before", issued.key.id)
        return issued

    def _was_there(self, key_id: str, rows: Sequence[ApiKey] | None) -> bool:
        """Tell whether an id is another key's, of whatever owner: storing it would destroy that one's secret."""
        if any(row.id == key_id for row in rows or ()):
            return True
        entry = EntryName(self.server.url, key_id)
        return self.journal.find_known(self.server.url, key_id) is not None or self._is_held(entry)

    def _is_held(self, entry: EntryName) -> bool:
        try:
            return self.store.holds(entry)
        except StoreUnavailable:
            return True

    def _keep(self, operation: Operation, issued: IssuedKey, *, can_revoke: bool) -> KnownKey:
        """Escrow, store, read back, record. From here on a failure must not leave a key whose secret is nowhere."""
        url, key = self.server.url, issued.key
        self._try_first(operation, issued)
        spec = operation.spec or KeySpec(key.name, key.owner, key.scopes, key.expires_at)
        with suppress(StoreUnavailable):
            self.store.write_escrow(operation.id, EscrowedKey(key.id, spec, key.created_at, issued.secret), url)
        entry = EntryName(url, key.id)
        try:
            about: dict[str, object] = {"id": key.id, "owner": key.owner, "name": key.name}
            self.store.put(entry, issued.secret, about, escrow=operation.id)
            is_kept = self.store.confirms(entry, issued.secret)
        except StoreUnavailable as problem:
            raise self._undo_unstored(operation, key.id, problem.message, can_revoke=can_revoke) from None
        if not is_kept:
            raise self._undo_unstored(
                operation, key.id, "The store returned another value than it took.", can_revoke=can_revoke
            )
        return self._record(operation, issued)

    def _try_first(self, operation: Operation, issued: IssuedKey) -> None:
        """Where a sink is the store, what it holds is the old key's only secret: replace it by one that works.

        Raises:
            Incomplete: the new key does not, or that is undecided; it was revoked again.
        """
        if self.verifier is None or self.store.kind != NO_STORE:
            return
        known = known_from(operation, issued.key, issued.secret, self.clock.now())
        try:
            verification = self.verifier.run(known, issued.secret)
        except BlnkctlError as problem:
            raise self._undo_unproven(operation, known, None, problem.message) from None
        if not verification.authenticates:
            raise self._undo_unproven(operation, known, verification.authenticates, verification.reason)

    def _record(self, operation: Operation, issued: IssuedKey) -> KnownKey:
        known = known_from(operation, issued.key, issued.secret, self.clock.now())
        try:
            self.journal.close_operation(operation.id, "stored", key=known)
        except StoreUnavailable as problem:
            raise Incomplete(
                f"The key {issued.key.id} was created and its secret is {whereabouts(operation.store)}, but that"
                f" could not be recorded: {problem.message}",
                code="not_recorded",
                hint=f"Mend that, then: {RECOVER_HINT}",
                target=issued.key.id,
            ) from None
        with suppress(StoreUnavailable):
            self.store.settle_escrow(operation.id, EntryName(self.server.url, known.id), known.fingerprint)
        return known

    # --- ways back ----------------------------------------------------------------------------

    def _abandon(self, operation: Operation, outcome: str) -> None:
        """Leave nothing of an operation that made no key; what cannot be cleaned now is left to `recover`."""
        with suppress(StoreUnavailable):
            self.store.delete(EntryName(self.server.url, operation.canary))
            self.store.drop_escrow(operation.id)
            self.journal.close_operation(operation.id, outcome)

    def _undo_unstored(
        self, operation: Operation, key_id: str, problem: str, *, can_revoke: bool
    ) -> StoreUnavailable | Incomplete:
        """The secret could not be kept: take the key back, or say that `recover` must."""
        if not can_revoke or not revoke_for_certain(self.server, key_id, operation.owner):
            return Incomplete(
                f"The key {key_id} was created, but its secret could not be stored ({problem}) and the key could not"
                " be revoked again.",
                code="created_not_stored",
                hint=RECOVER_HINT,
                target=key_id,
            )
        with suppress(StoreUnavailable):
            self.store.delete(EntryName(self.server.url, key_id))
        self._abandon(operation, "revoked: could not be stored")
        return StoreUnavailable(
            f"{problem} The key {key_id}, created just before, was revoked again: nothing usable exists.",
            code="store_failed",
            hint="Mend the store (`blnkctl doctor`), or the sink where there is none; then run this again.",
            target=key_id,
        )

    def _undo_unproven(
        self, operation: Operation, known: KnownKey, authenticates: bool | None, reason: str
    ) -> Incomplete:
        """A successor that is not known to work has no place to wait in: take it back, or say that `recover` must."""
        is_undecided = authenticates is None
        what = "Whether the new key {} works is undecided" if is_undecided else "The new key {} does not work"
        message = f"{what.format(known.id)}: {reason.rstrip('.')}."
        if not revoke_for_certain(self.server, known.id, known.owner):
            message = f"{message} It could not be revoked; its sinks hold what they held."
            return Incomplete(message, code="successor_not_revoked", hint=RECOVER_HINT, target=known.id)
        self._abandon(operation, "revoked: not proven")
        return Incomplete(
            f"{message} It was revoked again; its sinks hold what they held.",
            code="undecided" if is_undecided else "successor_rejected",
            hint="Look at the server with: blnkctl doctor; then run this again.",
            target=operation.succeeds,
        )

    def _undo_unusable(
        self, operation: Operation, answer: UnusableAnswer, rows: Sequence[ApiKey] | None
    ) -> OutcomeUnknown:
        """A 201 that is not the key asked for: revoke what it made, but nothing that was there before."""
        made = self._find_made(operation, answer.key_id, rows)
        ids = ", ".join(row.id for row in made)
        if not made:
            return OutcomeUnknown(f"{answer.message} A key may or may not exist.", code=answer.code)
        are_revoked = [revoke_for_certain(self.server, row.id, row.owner) for row in made]
        if not all(are_revoked):
            return OutcomeUnknown(
                f"{answer.message} What it made, {ids}, could not be revoked.",
                code=answer.code,
                hint=f"blnkctl keys revoke {ids.replace(',', '')}, then blnkctl recover",
                target=made[0].id,
            )
        self._abandon(operation, "revoked: the answer was unusable")
        return OutcomeUnknown(
            f"{answer.message} What it made, {ids}, was found and revoked: nothing usable exists.",
            code=answer.code,
            hint="A proxy or another program may have answered in the server's place; check the URL.",
            target=made[0].id,
        )

    def _find_made(self, operation: Operation, named: str | None, rows: Sequence[ApiKey] | None) -> list[ApiKey]:
        if rows is None:
            return []
        before = {row.id for row in rows}
        spec = operation.spec
        try:
            now = list(self.server.list_keys(operation.owner))
        except BlnkctlError:
            return []
        new = [row for row in now if row.id not in before]
        ours = [row for row in new if spec is not None and spec.matches(row)]
        return ours or [row for row in new if row.id == named and row.name == operation.name]


def known_from(operation: Operation, key: ApiKey, secret: Secret | None, stored_at: datetime) -> KnownKey:
    """Return the index's row for a key whose secret the operation's store holds."""
    return replace(
        KnownKey.of(operation.server, key),
        store=operation.store,
        store_id=operation.store_id,
        fingerprint=None if secret is None else secret.fingerprint(),
        stored_at=stored_at,
        awaits_promotion=operation.succeeds is not None,
    )
