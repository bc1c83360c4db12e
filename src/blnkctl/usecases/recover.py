"""Settling what was begun and not recorded to its end: by the list, the escrow and the stores. Never sends a POST."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from shlex import quote
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import NO_STORE, whereabouts
from blnkctl.domain.entries import EntryName, EscrowedKey, EscrowReading
from blnkctl.domain.errors import (
    RECOVER_HINT,
    BlnkctlError,
    Busy,
    Incomplete,
    NotConfigured,
    OutcomeUnknown,
    ServerTrouble,
    StoreUnavailable,
)
from blnkctl.domain.keys import ApiKey, KeySpec, StorageScheme
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.operations import KnownKey, Operation, OperationKind, Phase
from blnkctl.domain.probes import ProbeVerdict
from blnkctl.domain.recovery import PROXY_PATIENCE, Decision, EscrowState, Evidence, Sighting, StoreAnswer, decide
from blnkctl.domain.secret import Secret
from blnkctl.usecases.escrows import settle_escrows
from blnkctl.usecases.guards import (
    key_lock,
    operation_lock,
    revoke_for_certain,
    server_restored,
    signs_of_a_restored_server,
    telling,
)
from blnkctl.usecases.mint import known_from
from blnkctl.usecases.successors import way_on_with

if TYPE_CHECKING:
    from blnkctl.ports import Clock, Journal, KeyServer, Locks, Reporter, SecretStore

LONGEST_UNDER_WAY = timedelta(minutes=5)


class RecoverDecision(StrEnum):
    """What became of one operation."""

    FINISHED = "finished"
    UNDONE = "undone"
    WAITING = "waiting"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Recovered:
    """One operation's outcome; `error` where it is not settled."""

    operation: Operation
    decision: RecoverDecision
    message: str
    error: BlnkctlError | None = None


@dataclass(frozen=True, slots=True)
class _Findings:
    """What was found of one create: the rows that carry our mark, the escrow, the decision."""

    matches: tuple[ApiKey, ...]
    escrow: EscrowReading
    decision: Decision


@dataclass(frozen=True, slots=True)
class Recover:
    """Settles the open operations of one server. `stores` are all that this version has, by kind."""

    server: KeyServer
    stores: Mapping[str, SecretStore]
    journal: Journal
    locks: Locks
    clock: Clock
    reporter: Reporter
    abandon_escrow: bool = False
    dry_run: bool = False
    clock_skew: timedelta = timedelta()

    def run(self) -> list[Recovered]:
        """Settle each operation that is not running.

        Raises:
            BlnkctlError: the server cannot be asked at all; nothing was touched.
        """
        if not self.dry_run:
            settle_escrows(self.stores.values(), self.journal, self.clock.now())
        everything = self.journal.open_operations()
        ours = [operation for operation in everything if operation.server == str(self.server.url)]
        if len(ours) < len(everything):
            self._mention_others(everything)
        return self.settle(ours)

    def settle(self, ours: Sequence[Operation]) -> list[Recovered]:
        """Settle these operations of this server.

        Raises:
            BlnkctlError: the server cannot be asked at all; nothing was touched.
        """
        if not ours:
            return []
        with telling("Nothing was touched."):
            profile = self.server.profile()
        judge = replace(self, clock_skew=profile.clock_skew or timedelta())
        return [judge._settle_unless_running(operation, profile.generation.can_list) for operation in ours]

    def _mention_others(self, everything: Sequence[Operation]) -> None:
        others = sorted({operation.server for operation in everything} - {str(self.server.url)})
        self.reporter.note(f"Open operations of other servers are left alone: {', '.join(others)}.")

    def _settle_unless_running(self, operation: Operation, can_list: bool) -> Recovered:
        if self.locks.is_held(operation_lock(operation.id)):
            return _waiting(operation, "It is still running.")
        try:
            with self.locks.hold([operation_lock(operation.id)], "this operation"):
                now = {one.id: one for one in self.journal.open_operations()}.get(operation.id)
                if now is None:
                    return Recovered(operation, RecoverDecision.FINISHED, "It ended by itself meanwhile.")
                return self._settle(now, can_list)  # it may have come further since it was first read
        except BlnkctlError as problem:
            return Recovered(operation, RecoverDecision.BLOCKED, problem.message, problem)

    def _settle(self, operation: Operation, can_list: bool) -> Recovered:
        if operation.kind is OperationKind.REVOKE:
            return self._settle_revoke(operation)
        if operation.phase is Phase.PREFLIGHT:
            return self._close(operation, RecoverDecision.UNDONE, f"Nothing had been sent.{self._way_on(operation)}")
        if operation.kind is OperationKind.IMPORT:
            return self._settle_import(operation)
        return self._settle_create(operation, can_list)

    # --- revokes ------------------------------------------------------------------------------

    def _settle_revoke(self, operation: Operation) -> Recovered:
        """Say what the list shows. An operator who was interrupted may not want the key revoked any more."""
        rows = [row for row in self.server.list_keys(operation.owner) if row.id == operation.key_id]
        if not rows:
            raise server_restored(self.server.url, f"the key {operation.key_id}, listed before, is gone there")
        if rows[0].is_revoked:
            return self._record_revoked(operation, rows[0])
        message = f"{operation.key_id} is not revoked. To revoke it: blnkctl keys revoke {operation.key_id}"
        return self._close(operation, RecoverDecision.UNDONE, message)

    def _record_revoked(self, operation: Operation, row: ApiKey) -> Recovered:
        message = f"{row.id} is revoked."
        if not self.dry_run:
            known = self.journal.find_known(self.server.url, row.id)
            if known is not None:
                self.journal.remember([replace(known, is_revoked=True, revoked_at=row.revoked_at)])
            self.journal.close_operation(operation.id, "recovered: revoked")
        return Recovered(operation, RecoverDecision.FINISHED, message)

    # --- imports ------------------------------------------------------------------------------

    def _settle_import(self, operation: Operation) -> Recovered:
        """Record what the store holds, if the server does not refuse it. The key is somebody's: it stays as it is."""
        rows = [row for row in self.server.list_keys(operation.owner) if row.id == operation.key_id]
        if not rows:
            raise server_restored(self.server.url, f"the key {operation.key_id}, listed before, is gone there")
        store = self._store_of(operation)
        if store is None:
            raise _store_away(operation)
        entry = EntryName(self.server.url, rows[0].id)
        secret = _read_if_possible(store, entry)
        if not store.holds(entry) or (secret is not None and not self._is_of(rows[0], secret)):
            message = f"The secret of {rows[0].id} was not stored; import it again."
            return self._close(operation, RecoverDecision.UNDONE, message)
        if not self.dry_run:
            self._record(operation, rows[0], secret)
        return Recovered(operation, RecoverDecision.FINISHED, f"The secret of {rows[0].id} is in the store.")

    def _is_of(self, row: ApiKey, secret: Secret) -> bool:
        """Tell whether the entry is this key's, and not what stood there before and was to be replaced."""
        forms = [form for listed, form in self.server.list_stored(row.owner) if listed.id == row.id]
        if not any(form.is_bcrypt for form in forms):
            return any(form.matches_at_once(secret) for form in forms)
        return self.server.probe(secret).verdict is not ProbeVerdict.UNKNOWN_KEY

    # --- creates: evidence --------------------------------------------------------------------

    def _settle_create(self, operation: Operation, can_list: bool) -> Recovered:
        rows = list(self.server.list_keys(operation.owner)) if can_list else None
        if rows is not None:
            self._refuse_a_restored_server(operation, rows)
        findings = self._look(operation, rows)
        return self._act(operation, findings)

    def _refuse_a_restored_server(self, operation: Operation, rows: Sequence[ApiKey]) -> None:
        known = [key for key in self.journal.known_keys(self.server.url) if key.owner == operation.owner]
        sign = signs_of_a_restored_server(known, rows)
        if sign is None and operation.rows_before is not None and len(rows) < operation.rows_before:
            sign = f"{escape_unsafe(operation.owner)} has {len(rows)} rows, and had {operation.rows_before}"
        if sign is not None:
            raise server_restored(self.server.url, sign)

    def _look(self, operation: Operation, rows: Sequence[ApiKey] | None) -> _Findings:
        spec = operation.spec
        matches = tuple(
            row
            for row in rows or ()
            if spec is not None
            and spec.matches(row)
            and self._may_be(row.id, spec)
            and not self._is_made_by_another(operation, row)
        )
        escrow = self._read_escrow(operation)
        if escrow.key is not None and not self._is_ours(escrow.key, spec):
            escrow = EscrowReading(EscrowState.NONE)
        named = None if escrow.key is None else escrow.key.key_id
        matches = self._likeliest_first(matches, named)
        sighting = self._sight(rows, matches, named)
        evidence = Evidence(
            sighting=sighting,
            escrow=escrow.state,
            store=self._ask_stores(operation, matches) if sighting is Sighting.ONCE else StoreAnswer.UNREADABLE,
            since_sent=self._since_sent(operation),
        )
        return _Findings(matches, escrow, decide(evidence))

    def _is_ours(self, escrowed: EscrowedKey, spec: KeySpec | None) -> bool:
        """Tell whether an escrow holds what was asked for: anybody can encrypt to a public key."""
        return spec is not None and escrowed.spec == spec and self._may_be(escrowed.key_id, spec)

    def _may_be(self, key_id: str, spec: KeySpec) -> bool:
        """Tell whether an id can be ours: not one that the index knows as another key's, whatever a list says."""
        known = self.journal.find_known(self.server.url, key_id)
        asked = (spec.owner, spec.name, spec.expires_at)
        return known is None or (known.owner, known.name, known.expires_at) == asked

    def _is_made_by_another(self, operation: Operation, row: ApiKey) -> bool:
        """Tell whether a row came too late to be ours: another machine asks for the very same successor of a key."""
        sent_at = (operation.sent_at or operation.started_at) + self.clock_skew
        return operation.succeeds is not None and row.created_at > sent_at + LONGEST_UNDER_WAY

    def _way_on(self, operation: Operation) -> str:
        """Say which command goes on with what the operation was a step of."""
        if operation.succeeds is None:
            return ""
        succession = self.journal.find_succession(self.server.url, operation.succeeds)
        return "" if succession is None else f" To go on: {way_on_with(succession)}"

    def _likeliest_first(self, matches: Sequence[ApiKey], named: str | None) -> tuple[ApiKey, ...]:
        """Put the row that the escrow names first, then what is live: decisions are about the first."""
        return tuple(sorted(matches, key=lambda row: (row.id != named, not self._is_live(row))))

    def _is_live(self, row: ApiKey) -> bool:
        return not row.is_revoked and not row.is_expired(self.clock.now() + self.clock_skew)

    def _sight(self, rows: Sequence[ApiKey] | None, matches: Sequence[ApiKey], named: str | None) -> Sighting:
        if rows is None:
            return Sighting.UNLISTABLE
        if named is not None and all(row.id != named for row in matches):
            return Sighting.ABSENT
        live = [row for row in matches if self._is_live(row)]
        if matches and (not live or (matches[0].id == named and matches[0] not in live)):
            return Sighting.ENDED
        return (Sighting.ABSENT, Sighting.ONCE, Sighting.TWICE)[min(len(live), 2)]

    def _since_sent(self, operation: Operation) -> timedelta:
        since = self.clock.now() - (operation.sent_at or operation.started_at)
        return since if since >= timedelta() else timedelta()

    def _store_of(self, operation: Operation) -> SecretStore | None:
        """Return the store that the operation used, if it is here and still the same one."""
        store = self.stores.get(operation.store or "")
        try:
            is_here = store is not None and store.store_id == operation.store_id
            return None if store is None or not is_here else store.used_by(operation)
        except (NotConfigured, StoreUnavailable):
            return None

    def _read_escrow(self, operation: Operation) -> EscrowReading:
        store = self._store_of(operation)
        if store is None:
            reading = EscrowReading(EscrowState.LOCKED, problem="The store that it used is not here.")
        else:
            reading = store.read_escrow(operation.id)
        if self.abandon_escrow and reading.state is EscrowState.LOCKED:
            return EscrowReading(EscrowState.NONE)
        return reading

    def _ask_stores(self, operation: Operation, matches: Sequence[ApiKey]) -> StoreAnswer:
        unreadable = StoreAnswer.HAS_NOT if self.abandon_escrow else StoreAnswer.UNREADABLE
        own = self._store_of(operation)
        if own is None:
            return unreadable
        entry = EntryName(self.server.url, matches[0].id)
        try:
            return StoreAnswer.HAS_IT if own.holds(entry) else StoreAnswer.HAS_NOT
        except (NotConfigured, StoreUnavailable):
            return unreadable

    # --- creates: the decision's effect -------------------------------------------------------

    def _act(self, operation: Operation, found: _Findings) -> Recovered:
        match found.decision:
            case Decision.CLOSE:
                return self._close(operation, RecoverDecision.UNDONE, f"No key was made.{self._way_on(operation)}")
            case Decision.ADOPT:
                return self._adopt(operation, found)
            case Decision.STORE:
                return self._store(operation, found)
            case Decision.REVOKE:
                return self._revoke(operation, found.matches[0])
            case Decision.DROP:
                return self._drop(operation, found)
            case _:
                return self._leave(operation, found)

    def _adopt(self, operation: Operation, found: _Findings) -> Recovered:
        row = found.matches[0]
        store = self._store_of(operation)
        if store is not None and not self.dry_run:
            self._record(operation, row, self._read_anew(store, EntryName(self.server.url, row.id)))
        where = whereabouts(operation.store)
        message = f"{row.id} is live and its secret is {where}.{self._outstanding(operation, row)}"
        return Recovered(operation, RecoverDecision.FINISHED, message)

    def _read_anew(self, store: SecretStore, entry: EntryName) -> Secret | None:
        """Return what the store has, where it can be read; a sink that has it is given the receipt that it lacks."""
        secret = _read_if_possible(store, entry)
        if secret is not None and store.kind == NO_STORE:
            store.confirms(entry, secret)
        return secret

    def _outstanding(self, operation: Operation, row: ApiKey) -> str:
        """Say which command goes on with a key that is kept: its succession's, or the delivery that is left."""
        way_on = self._way_on(operation)
        if way_on:
            return way_on
        delivered = {one.sink for one in self.journal.receipts(self.server.url, row.id).get(row.id, ())}
        sinks = " ".join(f"--to {quote(sink)}" for sink in operation.sinks if sink not in delivered)
        return f" To deliver it: blnkctl keys deliver {row.id} {sinks}" if sinks else ""

    def _store(self, operation: Operation, found: _Findings) -> Recovered:
        store = self._store_of(operation)
        escrowed = found.escrow.key
        row = found.matches[0] if found.matches else _row_of_escrow(found.escrow)
        if store is None or row is None:
            raise StoreUnavailable("The store that it used is not here.", code="store_missing")
        if not self.dry_run:
            self._keep(store, operation, row, None if escrowed is None else escrowed.secret)
        stored = self._tense("is now in the store", "would be stored")
        message = f"{row.id} is live and its secret {stored}.{self._outstanding(operation, row)}{self._twins(found)}"
        return Recovered(operation, RecoverDecision.FINISHED, message)

    def _twins(self, found: _Findings) -> str:
        twins = [other.id for other in found.matches[1:] if self._is_live(other)]
        if not twins:
            return ""
        return f" A twin was made with it, whose secret nobody has; revoke it: {', '.join(twins)}"

    def _tense(self, done: str, planned: str) -> str:
        return planned if self.dry_run else done

    def _keep(self, store: SecretStore, operation: Operation, row: ApiKey, secret: Secret | None) -> None:
        entry = EntryName(self.server.url, row.id)
        with store.writing():
            if secret is None:
                store.keep_sealed_escrow(operation.id, entry)
                is_kept = store.holds(entry)
            else:
                about: dict[str, object] = {"id": row.id, "owner": row.owner, "name": row.name}
                store.put(entry, secret, about, escrow=operation.id)
                is_kept = store.confirms(entry, secret)
        if not is_kept:
            raise StoreUnavailable(f"The store did not keep the secret of {row.id}.", code="store_lies")
        self._record(operation, row, secret)

    def _record(self, operation: Operation, row: ApiKey, secret: Secret | None) -> None:
        known = known_from(operation, row, secret, self.clock.now())
        self.journal.close_operation(operation.id, "recovered: stored", key=known)
        self._clean(operation, known)

    def _revoke(self, operation: Operation, row: ApiKey) -> Recovered:
        if not self.dry_run and not self._is_revoked_for_certain(row):
            raise ServerTrouble(
                f"{row.id} is live, its secret is nowhere, and it could not be revoked.",
                code="not_revoked",
                target=row.id,
                hint=RECOVER_HINT,
            )
        revoked = self._tense("was revoked", "would be revoked")
        message = f"{row.id} had been made, and its secret is nowhere: it {revoked}.{self._way_on(operation)}"
        return self._close(operation, RecoverDecision.UNDONE, message)

    def _is_revoked_for_certain(self, row: ApiKey) -> bool:
        with self.locks.hold([key_lock(self.server.url, row.id)], f"the key {row.id}"):
            return revoke_for_certain(self.server, row.id, row.owner)

    def _drop(self, operation: Operation, found: _Findings) -> Recovered:
        ended = [row.id for row in found.matches if not self._is_live(row)]
        store = self._store_of(operation)
        if store is not None and not self.dry_run:
            for key_id in ended:
                store.delete(EntryName(self.server.url, key_id))
        deleted = self._tense("its copies are deleted", "its copies would be deleted")
        if operation.store == NO_STORE:
            deleted = "its sinks are left as they are"
        message = f"{', '.join(ended)} is revoked or expired; {deleted}.{self._twins(found)}"
        return self._close(operation, RecoverDecision.UNDONE, message)

    def _close(self, operation: Operation, decision: RecoverDecision, message: str) -> Recovered:
        if not self.dry_run:
            self._clean(operation)
            self.journal.close_operation(operation.id, f"recovered: {message}")
        return Recovered(operation, decision, message)

    def _clean(self, operation: Operation, stored: KnownKey | None = None) -> None:
        """Delete the canary, the escrow and what was half-written, where the store is here."""
        store = self._store_of(operation)
        if store is not None:
            with suppress(StoreUnavailable, Busy):
                store.delete(EntryName(self.server.url, operation.canary))
                if stored is None:
                    store.drop_escrow(operation.id)
                else:
                    store.settle_escrow(operation.id, EntryName(self.server.url, stored.id), stored.fingerprint)
            store.sweep()

    def _leave(self, operation: Operation, found: _Findings) -> Recovered:
        if found.decision is Decision.WAIT:
            left = PROXY_PATIENCE - self._since_sent(operation)
            return _waiting(
                operation,
                "The server does not list it; a proxy may still deliver the request."
                f" Recover again in {int(left.total_seconds()) + 1} s.",
            )
        if found.decision is Decision.RESTORED:
            named = found.escrow.key.key_id if found.escrow.key is not None else "the key in the escrow"
            raise server_restored(self.server.url, f"{named}, made here, is gone there")
        return _blocked(operation, found)


def _read_if_possible(store: SecretStore, entry: EntryName) -> Secret | None:
    try:
        return store.get(entry)
    except StoreUnavailable:
        return None


def _row_of_escrow(escrow: EscrowReading) -> ApiKey | None:
    """Before 0.12 nothing is listed: the escrow's own words are all there is."""
    if escrow.key is None:
        return None
    spec = escrow.key.spec
    return ApiKey(
        id=escrow.key.key_id,
        name=spec.name,
        owner=spec.owner,
        scopes=spec.scopes,
        expires_at=spec.expires_at,
        created_at=escrow.key.created_at,
        last_used_at=None,
        is_revoked=False,
        revoked_at=None,
        scheme=StorageScheme.PLAINTEXT,
    )


def _store_away(operation: Operation) -> StoreUnavailable:
    message = "The store that it used is not here; nothing was touched."
    hint = "Bring it back, then recover again."
    return StoreUnavailable(message, code="store_missing", hint=hint, target=operation.id)


def _waiting(operation: Operation, message: str) -> Recovered:
    error = Incomplete(message, code="waiting", hint=RECOVER_HINT, target=operation.id)
    return Recovered(operation, RecoverDecision.WAITING, message, error)


def _blocked(operation: Operation, found: _Findings) -> Recovered:
    problem = found.escrow.problem.rstrip(".")
    error: BlnkctlError
    if found.decision is Decision.TOUCH_NOTHING:
        message, hint = _cannot_tell(found)
        error = OutcomeUnknown(message, code="cannot_tell", hint=hint, target=operation.id)
    elif operation.store == NO_STORE:
        error = _sink_away(operation)
        message = error.message
    else:
        message = f"The store cannot be read now{': ' + problem if problem else ''}; nothing was touched."
        hint = (
            "Unlock or restore the store, or name its identity with BLNKCTL_AGE_IDENTITY_FILE, then recover again;"
            " is it gone for good: blnkctl recover --abandon-escrow"
        )
        error = StoreUnavailable(message, code="blocked", hint=hint, target=operation.id)
    return Recovered(operation, RecoverDecision.BLOCKED, message, error)


def _sink_away(operation: Operation) -> StoreUnavailable:
    return StoreUnavailable(
        f"Whether {' or '.join(operation.sinks)} holds it cannot be told now; nothing was touched.",
        code="blocked",
        hint="Make that readable, then recover again; is it gone for good: blnkctl recover --abandon-escrow",
        target=operation.id,
    )


def _cannot_tell(found: _Findings) -> tuple[str, str]:
    """Say why, and what to type next."""
    ids = [row.id for row in found.matches]
    if not ids:
        message = "Whether the key was made cannot be told: before Core 0.12 none can be listed; nothing was touched."
        return message, "After the upgrade to Core 0.12 or newer: blnkctl recover"
    message = f"Which key is ours cannot be told: {', '.join(ids)}; nothing was touched."
    look = f"blnkctl keys show {' '.join(ids)}"
    return message, f"Look at them ({look}), revoke those that nobody uses, then: blnkctl recover"
