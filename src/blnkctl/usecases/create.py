"""Creating a key: preflight, intent, POST, escrow, store, stored; each durable before the next.

Knows no HTTP, no store's files, no terminal.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from blnkctl.domain.entries import EntryName, EscrowedKey
from blnkctl.domain.errors import (
    RECOVER_HINT,
    BlnkctlError,
    Incomplete,
    OutcomeUnknown,
    StoreUnavailable,
    Unsupported,
    UnusableAnswer,
    UsageError,
)
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import LIVE, ApiKey, IssuedKey, KeySpec, scheme_of
from blnkctl.domain.marks import create_mark, with_mark
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.operations import KnownKey, Operation, OperationKind, Phase
from blnkctl.domain.probes import ServerProfile
from blnkctl.domain.scopes import equals_full_access, warnings_about
from blnkctl.domain.secret import Secret
from blnkctl.usecases.escrows import settle_escrows
from blnkctl.usecases.guards import (
    name_lock,
    operation_lock,
    refuse_insecure,
    revoke_for_certain,
    telling,
)
from blnkctl.usecases.views import KeyView, Viewpoint, index_by_id

if TYPE_CHECKING:
    from blnkctl.ports import Approver, Clock, Deferral, Journal, KeyServer, Locks, Reporter, SecretStore


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """What the operator asked for, checked already. `expires_at` is cut to its second; the mark comes with it."""

    owner: str
    name: str
    scopes: tuple[str, ...]
    expires_at: datetime
    if_absent: bool = False
    allow_duplicate: bool = False
    reveal: bool = False
    reason: str | None = None
    actor: str = ""
    context: str | None = None


@dataclass(frozen=True, slots=True)
class CreateResult:
    """The key; `changed` is False where it was there already."""

    view: KeyView
    changed: bool


@dataclass(frozen=True, slots=True)
class CreateKey:
    """Makes one key whose secret is stored and proven, or leaves nothing."""

    server: KeyServer
    store: SecretStore
    journal: Journal
    locks: Locks
    clock: Clock
    signals: Deferral
    approver: Approver
    reporter: Reporter

    def run(self, request: CreateRequest) -> CreateResult:
        """Create the key.

        Raises:
            UsageError: `name_taken`. Refused: secure mode is off, or the admin key is wrong. Busy.
            StoreUnavailable: the secret could not be kept; nothing exists that did not before.
            OutcomeUnknown: `recover` finds out. Incomplete: the key exists, its end is not recorded.
        """
        url = self.server.url
        settle_escrows([self.store], self.journal, self.clock.now())
        what = f"{escape_unsafe(f'{request.owner}/{request.name}')}"
        with self.locks.hold([name_lock(url, request.owner, request.name)], what):
            with telling("Nothing was created."):
                profile = self.server.profile(check_secure=True)
            refuse_insecure(profile, url)
            self._weigh_unfinished(request, what)
            rows = self._list(request, profile.generation)
            now = profile.time_there(self.clock.now())
            _refuse_past(request, now)
            viewpoint = Viewpoint(profile.generation, now, index_by_id(self.journal.known_keys(url)), request.context)
            existing = self._existing(request, rows, viewpoint)
            if existing is not None:
                return CreateResult(existing, changed=False)
            self._weigh_scopes(request, profile)
            return self._create(request, rows, viewpoint)

    # --- what is there ------------------------------------------------------------------------

    def _weigh_unfinished(self, request: CreateRequest, what: str) -> None:
        """Tell of a create of this name that was cut short: the secret of a key that it left may be nowhere.

        Such a key is not "there already": `recover` may have to revoke it.
        """
        begun = (OperationKind.CREATE, str(self.server.url), request.owner, request.name)
        operations = self.journal.open_operations()
        if begun not in [(one.kind, one.server, one.owner, one.name) for one in operations]:
            return
        message = f"An earlier create of {what} was not finished"
        if request.if_absent:
            raise Incomplete(f"{message}; nothing was created.", code="unfinished", hint=RECOVER_HINT)
        self.reporter.warn(f"{message}; to settle it: blnkctl recover")

    def _list(self, request: CreateRequest, generation: Generation) -> list[ApiKey] | None:
        """Return the owner's rows, or None before 0.12."""
        if generation.can_list:
            with telling("Nothing was created."):
                return list(self.server.list_keys(request.owner))
        if request.if_absent:
            raise Unsupported(
                f"{self.server.url} runs a Core before 0.12, which cannot list keys: whether"
                f" {escape_unsafe(request.name)} is absent cannot be told. Nothing was sent.",
                code="cannot_list",
                hint="Leave out --if-absent; only the keys made from this machine are then compared.",
            )
        return None

    def _existing(
        self, request: CreateRequest, rows: Sequence[ApiKey] | None, viewpoint: Viewpoint
    ) -> KeyView | None:
        if rows is None:
            self._refuse_indexed_namesake(request, viewpoint)
            return None
        namesakes = [row for row in rows if row.name == request.name]
        live = [view for view in viewpoint.judge(namesakes) if view.status in LIVE]
        if not live or request.allow_duplicate:
            return None
        same = [view for view in live if frozenset(view.key.scopes) == frozenset(request.scopes)]
        if request.if_absent and same:
            return max(same, key=lambda view: (view.is_stored, view.key.created_at))
        raise _name_taken(request, live[0].key.id, "with other scopes" if request.if_absent else "")

    def _refuse_indexed_namesake(self, request: CreateRequest, viewpoint: Viewpoint) -> None:
        if request.allow_duplicate:
            return
        for known in viewpoint.index.values():
            is_namesake = (known.owner, known.name) == (request.owner, request.name)
            if is_namesake and not known.is_revoked and known.expires_at > viewpoint.now:
                detail = "as far as this machine knows (before 0.12 nothing can be listed)"
                raise _name_taken(request, known.id, detail)

    def _weigh_scopes(self, request: CreateRequest, profile: ServerProfile) -> None:
        if equals_full_access(request.scopes, profile.generation):
            self.approver.approve(
                f"Create {escape_unsafe(f'{request.owner}/{request.name}')} with {', '.join(request.scopes)}?",
                consequence="On this server these scopes equal full access: whoever holds the key can do everything.",
            )
            return
        for scope in request.scopes:
            for warning in warnings_about(scope, profile.generation):
                self.reporter.warn(warning)

    # --- the order of effects -----------------------------------------------------------------

    def _create(self, request: CreateRequest, rows: Sequence[ApiKey] | None, viewpoint: Viewpoint) -> CreateResult:
        spec = self._specify(request, rows)
        with self.store.writing():
            operation = Operation(
                id=secrets.token_hex(8),
                kind=OperationKind.CREATE,
                server=str(self.server.url),
                owner=request.owner,
                name=request.name,
                phase=Phase.PREFLIGHT,
                started_at=self.clock.now(),
                store=self.store.kind,
                store_id=self.store.store_id,
            )
            with self.locks.hold([operation_lock(operation.id)], "this operation"):
                sent = self._prepare(operation, request, spec, rows)
                issued, known = self._send(sent, spec, rows)
        key = replace(issued.key, scheme=scheme_of(viewpoint.generation))
        view = replace(viewpoint.view(key), known=known, secret=issued.secret if request.reveal else None)
        return CreateResult(view, changed=True)

    def _specify(self, request: CreateRequest, rows: Sequence[ApiKey] | None) -> KeySpec:
        namesakes = [row for row in rows or () if row.name == request.name]
        mark = create_mark(namesakes, random.SystemRandom())
        return KeySpec(request.name, request.owner, request.scopes, with_mark(request.expires_at, mark))

    def _prepare(
        self, operation: Operation, request: CreateRequest, spec: KeySpec, rows: Sequence[ApiKey] | None
    ) -> Operation:
        """Know that the answer can be kept, then record what will be asked for; an interrupt leaves nothing."""
        try:
            self.journal.begin(operation, actor=request.actor, reason=request.reason)
            self.store.check_writable(EntryName(self.server.url, operation.canary))
            self.store.reserve_escrow(operation.id)
            rows_before = None if rows is None else len(rows)
            sent = replace(operation, phase=Phase.SENT, spec=spec, rows_before=rows_before, sent_at=self.clock.now())
            self.journal.record_sent(sent)
        except BaseException:
            self._abandon(operation, "preflight failed")
            raise
        return sent

    def _send(self, sent: Operation, spec: KeySpec, rows: Sequence[ApiKey] | None) -> tuple[IssuedKey, KnownKey]:
        with self.signals.deferred():
            try:
                issued = self._ask(spec, rows)
            except UnusableAnswer as answer:
                raise self._undo_unusable(sent, answer, rows) from None
            except OutcomeUnknown:
                raise
            except BlnkctlError:
                self._abandon(sent, "refused: none was made")
                raise
            return issued, self._keep(sent, issued, can_revoke=rows is not None)

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

    def _record(self, operation: Operation, issued: IssuedKey) -> KnownKey:
        known = known_from(operation, issued.key, issued.secret, self.clock.now())
        try:
            self.journal.close_operation(operation.id, "stored", key=known)
        except StoreUnavailable as problem:
            raise Incomplete(
                f"The key {issued.key.id} was created and its secret is in the store, but that could not be recorded:"
                f" {problem.message}",
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
            hint="Mend the store (`blnkctl doctor`), then run this again.",
            target=key_id,
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


def _refuse_past(request: CreateRequest, now: datetime) -> None:
    """The expiry was checked by the clock here; the server's may be ahead."""
    if request.expires_at <= now:
        raise UsageError(
            "The expiry is past by the server's clock. Nothing was sent.",
            code="expires_in_the_past",
            hint="Compare the clocks with: blnkctl doctor",
        )


def known_from(operation: Operation, key: ApiKey, secret: Secret | None, stored_at: datetime) -> KnownKey:
    """Return the index's row for a key whose secret the operation's store holds."""
    return KnownKey(
        server=operation.server,
        id=key.id,
        owner=key.owner,
        name=key.name,
        scopes=key.scopes,
        expires_at=key.expires_at,
        created_at=key.created_at,
        store=operation.store,
        store_id=operation.store_id,
        fingerprint=None if secret is None else secret.fingerprint(),
        stored_at=stored_at,
        is_revoked=key.is_revoked,
        revoked_at=key.revoked_at,
    )


def _name_taken(request: CreateRequest, key_id: str, detail: str) -> UsageError:
    suffix = f" {detail}" if detail else ""
    return UsageError(
        f"{escape_unsafe(f'{request.owner}/{request.name}')} exists already, live{suffix}: {key_id}."
        " Nothing was sent.",
        code="name_taken",
        hint="Choose another name, or give --allow-duplicate (make a second)"
        f"{'' if detail else ' or --if-absent (take that one)'}.",
        target=key_id,
    )
