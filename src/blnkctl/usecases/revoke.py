"""Revoking keys, and proving that no server process accepts them any more."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from blnkctl.domain.errors import (
    BlnkctlError,
    Incomplete,
    NotConfigured,
    OutcomeUnknown,
    Refused,
    Rejected,
    ServerTrouble,
    StoreUnavailable,
    Unreachable,
    UsageError,
)
from blnkctl.domain.keys import ApiKey, KeyStatus
from blnkctl.domain.operations import KnownKey, Operation, OperationKind, Phase
from blnkctl.domain.probes import ProbeVerdict
from blnkctl.domain.secret import Secret
from blnkctl.usecases.guards import key_lock, operation_lock, telling
from blnkctl.usecases.secrets import HeldSecrets
from blnkctl.usecases.views import KeyView

if TYPE_CHECKING:
    from blnkctl.ports import Clock, Journal, KeyServer, Locks, Reporter

PROBES = 20
PROOF_SECONDS = 70.0
PROOF_LIMIT = timedelta(minutes=6)
HOPELESS = (Unreachable, Refused, NotConfigured, StoreUnavailable)  # the next key would meet the same


class RevokeResult(StrEnum):
    """What became of one key."""

    REVOKED = "revoked"
    ALREADY = "already_revoked"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Proof:
    """What the probes with the old secret said. `refused_since` is seconds of unbroken refusals."""

    probes: int
    accepted: int
    refused_since: float


@dataclass(frozen=True, slots=True)
class Revocation:
    """One key's outcome; `error` says why it failed or is not proven."""

    view: KeyView
    result: RevokeResult
    proof: Proof | None = None
    error: BlnkctlError | None = None


@dataclass(frozen=True, slots=True)
class RevokeKeys:
    """Revokes listed keys one by one, in a fixed order, each recorded."""

    server: KeyServer
    journal: Journal
    locks: Locks
    clock: Clock
    reporter: Reporter
    actor: str
    reason: str | None = None

    def run(
        self, views: Sequence[KeyView], progress: Callable[[int, int], None], *, look_again: bool = False
    ) -> list[Revocation]:
        """Revoke each key; a failure of one stops the next only if that would meet the same. Then read them back.

        `look_again`: a person thought about it meanwhile, and others revoke too; list the owners again first.
        """
        outcomes: list[Revocation] = []
        stopped: BlnkctlError | None = None
        for number, view in enumerate(self._as_they_are_now(views) if look_again else views, 1):
            try:
                outcomes.append(self.revoke(view) if stopped is None else _failed(view, stopped))
            except BlnkctlError as problem:
                stopped = problem if isinstance(problem, HOPELESS) else None
                outcomes.append(_failed(view, problem))
            progress(number, len(views))
        return self._read_back(outcomes)

    def _as_they_are_now(self, views: Sequence[KeyView]) -> list[KeyView]:
        with telling("Nothing was revoked."):
            rows = self._rows_now([view.key for view in views])
        return [replace(view, key=rows.get(view.key.id, view.key)) for view in views]

    def _rows_now(self, keys: Sequence[ApiKey]) -> dict[str, ApiKey]:
        ids = frozenset(key.id for key in keys)
        owners = dict.fromkeys(key.owner for key in keys)
        return {row.id: row for owner in owners for row in self.server.list_keys(owner) if row.id in ids}

    def revoke(self, view: KeyView) -> Revocation:
        """Revoke one key. A revoked key gets no second DELETE, which would overwrite its time.

        Raises:
            OutcomeUnknown: the DELETE was not answered and the list could not be read.
            ServerTrouble: it is still live.
        """
        lock = key_lock(self.server.url, view.key.id)
        is_contended = self.locks.is_held(lock)
        with self.locks.hold([lock], f"the key {view.key.id}"):
            key = self._row_now(view.key) if is_contended else view.key
            return self.revoke_locked(replace(view, key=key))

    def revoke_locked(self, view: KeyView) -> Revocation:
        """Revoke one key whose lock the caller holds, and whose row was listed since it took it."""
        if view.key.is_revoked:
            return Revocation(replace(view, status=KeyStatus.REVOKED, superseded_by=None), RevokeResult.ALREADY)
        operation = self._operation(view.key)
        with self.locks.hold([operation_lock(operation.id)], "this operation"):
            self.journal.begin(operation, actor=self.actor, reason=self.reason)
            self._send(operation, view)
        return Revocation(view, RevokeResult.REVOKED)

    def _row_now(self, key: ApiKey) -> ApiKey:
        """Look again: whoever held the lock a moment ago may have revoked it."""
        return next((row for row in self.server.list_keys(key.owner) if row.id == key.id), key)

    def _operation(self, key: ApiKey) -> Operation:
        now = self.clock.now()
        return Operation(
            id=secrets.token_hex(8),
            kind=OperationKind.REVOKE,
            server=str(self.server.url),
            owner=key.owner,
            name=key.name,
            phase=Phase.SENT,
            started_at=now,
            sent_at=now,
            key_id=key.id,
        )

    def _send(self, operation: Operation, view: KeyView) -> None:
        key = view.key
        try:
            self._ask(key)
        except ServerTrouble as trouble:
            self._settle(operation, view, trouble)
        except BlnkctlError:
            self.journal.close_operation(operation.id, "refused: not revoked")
            raise
        known = None if view.known is None else replace(view.known, is_revoked=True, revoked_at=self.clock.now())
        self._close(operation, known)

    def _ask(self, key: ApiKey) -> None:
        try:
            self.server.revoke(key.id, key.owner)
        except (Refused, Rejected) as problem:
            message = f"{problem.message} The key {key.id} was not revoked."
            raise type(problem)(message, code=problem.code, hint=problem.hint, target=key.id) from None

    def _close(self, operation: Operation, known: KnownKey | None) -> None:
        try:
            self.journal.close_operation(operation.id, "revoked", key=known)
        except StoreUnavailable as problem:
            self.reporter.warn(f"{problem.message} The key is revoked all the same.")

    def _settle(self, operation: Operation, view: KeyView, trouble: ServerTrouble) -> None:
        """The DELETE was not answered with Blnk's 204: the list tells whether it was done. A 429 did nothing."""
        if trouble.code == "rate_limited":
            self._fail(operation, trouble)
        try:
            rows = [row for row in self.server.list_keys(view.key.owner) if row.id == view.key.id]
        except BlnkctlError as problem:
            raise OutcomeUnknown(
                f"{trouble.message} Whether {view.key.id} is revoked could not be read either: {problem.message}",
                code="revoke_unanswered",
                target=view.key.id,
            ) from None
        if not rows:
            raise OutcomeUnknown(
                f"{trouble.message} Whether {view.key.id} is revoked cannot be told: it is not listed now.",
                code="revoke_unanswered",
                target=view.key.id,
            )
        if not rows[0].is_revoked:
            self._fail(operation, trouble)

    def _fail(self, operation: Operation, trouble: ServerTrouble) -> NoReturn:
        self.journal.close_operation(operation.id, "failed: still live")
        raise ServerTrouble(
            f"{trouble.message} The key {operation.key_id} is still live.",
            code=trouble.code,
            hint=trouble.hint,
            target=operation.key_id,
        )

    def _read_back(self, outcomes: Sequence[Revocation]) -> list[Revocation]:
        revoked = [outcome.view.key for outcome in outcomes if outcome.result is RevokeResult.REVOKED]
        try:
            rows = self._rows_now(revoked)
        except BlnkctlError as problem:
            self.reporter.warn(f"{problem.message} The keys are revoked; when is not known here.")
            rows = {}
        return [
            outcome if outcome.result is not RevokeResult.REVOKED else _seen(outcome, rows.get(outcome.view.key.id))
            for outcome in outcomes
        ]


def _failed(view: KeyView, problem: BlnkctlError) -> Revocation:
    return Revocation(view, RevokeResult.FAILED, error=problem)


def _seen(outcome: Revocation, row: ApiKey | None) -> Revocation:
    """Return the outcome with the row as listed now; without one `revoked_at` is left open."""
    view = outcome.view
    key = replace(view.key, is_revoked=True) if row is None else row
    if key.is_revoked:
        return replace(outcome, view=replace(view, key=key, status=KeyStatus.REVOKED, superseded_by=None))
    trouble = ServerTrouble(
        f"The server said that {key.id} is revoked, and still lists it as live.",
        code="not_revoked",
        target=key.id,
        hint=f"A replica of the database may lag; look again with: blnkctl keys show {key.id}",
    )
    return Revocation(view, RevokeResult.FAILED, error=trouble)


@dataclass(frozen=True, slots=True)
class ProveRevoked:
    """Waits until every server process refuses revoked keys: each keeps a validated key for up to a minute."""

    server: KeyServer
    clock: Clock

    def run(
        self,
        revoked: Revocation,
        secret: Secret,
        limit: timedelta = PROOF_LIMIT,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Revocation:
        """Probe over new connections until twenty refusals in a row over at least seventy seconds."""
        started = self.clock.monotonic()
        proof = Proof(0, 0, 0.0)
        in_a_row, since = 0, started
        while self.clock.monotonic() - started <= limit.total_seconds():
            asked_at = self.clock.monotonic()
            is_refused, is_accepted = self._ask(secret)
            in_a_row = in_a_row + 1 if is_refused else 0
            since = since if in_a_row > 1 else asked_at
            seconds = self.clock.monotonic() - since if is_refused else 0.0
            progress(min(in_a_row, PROBES), PROBES)
            proof = Proof(proof.probes + 1, proof.accepted + int(is_accepted), round(seconds, 1))
            if in_a_row >= PROBES and seconds >= PROOF_SECONDS:
                return replace(revoked, proof=proof)
            self.clock.sleep(PROOF_SECONDS / (PROBES - 1))
        return replace(revoked, proof=proof, error=_not_proven(revoked.view.key.id, proof, limit))

    def _ask(self, secret: Secret) -> tuple[bool, bool]:
        try:
            verdict = self.server.probe(secret, fresh_connection=True).verdict
        except BlnkctlError:
            return False, False
        return verdict is ProbeVerdict.EXPIRED_OR_REVOKED, verdict is ProbeVerdict.AUTHENTICATED


def _not_proven(key_id: str, proof: Proof, limit: timedelta) -> Incomplete:
    return Incomplete(
        f"{key_id} is revoked, but within {int(limit.total_seconds())} s the refusals were not unbroken for"
        f" {int(PROOF_SECONDS)} s ({proof.accepted} of {proof.probes} probes were accepted).",
        code="proof_not_reached",
        hint=f"Ask again: blnkctl keys revoke {key_id} --wait",
        target=key_id,
    )


def read_secrets_for_proof(views: Sequence[KeyView], held: HeldSecrets) -> dict[str, Secret]:
    """Return each key's stored secret, by id, before anything is sent.

    Raises:
        UsageError: one is not held here; only with it can be shown that the key is refused.
    """
    found: dict[str, Secret] = {}
    for view in views:
        secret = None
        if view.known is not None:
            secret = held.of(view.known)
        if secret is None:
            raise UsageError(
                f"--wait needs the secret of {view.key.id}, which is not held here. Nothing was sent.",
                code="secret_not_held",
                hint="Leave out --wait, and count on two minutes until every server process refuses it.",
                target=view.key.id,
            )
        found[view.key.id] = secret
    return found
