"""Creating a key: what is asked for is weighed against what is there, then `mint` makes it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from shlex import quote
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import NO_STORE
from blnkctl.domain.errors import (
    RECOVER_HINT,
    BlnkctlError,
    Incomplete,
    Unsupported,
    UsageError,
)
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import LIVE, ApiKey, KeySpec, scheme_of
from blnkctl.domain.marks import create_mark, with_mark
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.operations import OperationKind
from blnkctl.domain.probes import ServerProfile
from blnkctl.domain.scopes import equals_full_access, warnings_about
from blnkctl.domain.secret import Secret
from blnkctl.domain.sinks import SinkAddress
from blnkctl.usecases.deliver import DeliverSecret, Recipient, not_delivered
from blnkctl.usecases.escrows import settle_escrows
from blnkctl.usecases.guards import (
    name_lock,
    refuse_insecure,
    require_list,
    require_sink,
    telling,
)
from blnkctl.usecases.mint import MintKey, MintOrder
from blnkctl.usecases.secrets import HeldSecrets
from blnkctl.usecases.views import KeyView, Viewpoint, index_by_id

if TYPE_CHECKING:
    from blnkctl.ports import Approver, Clock, Deferral, Journal, KeyServer, Locks, Reporter, SecretStore
    from blnkctl.usecases.made_elsewhere import FindMadeElsewhere


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
    sinks: tuple[SinkAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class CreateResult:
    """The key; `changed` is False where it was there already. `error`: it did not reach every sink."""

    view: KeyView
    changed: bool
    error: BlnkctlError | None = None


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
    delivery: DeliverSecret
    held: HeldSecrets
    find_elsewhere: Callable[[], FindMadeElsewhere]

    def run(self, request: CreateRequest) -> CreateResult:
        """Create the key.

        Raises:
            UsageError: `name_taken`. Refused: secure mode is off, or the admin key is wrong. Busy.
            StoreUnavailable: the secret could not be kept; nothing exists that did not before.
            OutcomeUnknown: `recover` finds out. Incomplete: the key exists, its end is not recorded.
        """
        url = self.server.url
        require_sink(self.store, self.delivery, [(Recipient(request.owner, request.name), request.sinks)])
        settle_escrows([self.store], self.journal, self.clock.now())
        what = f"{escape_unsafe(f'{request.owner}/{request.name}')}"
        with self.locks.hold([name_lock(url, request.owner, request.name)], what):
            with telling("Nothing was created."):
                profile = self.server.profile(check_secure=True)
            refuse_insecure(profile, url)
            require_list(self.store, profile.generation)
            self._weigh_unfinished(request, what)
            rows = self._list(request, profile.generation)
            now = profile.time_there(self.clock.now())
            _refuse_past(request, now)
            viewpoint = Viewpoint(profile.generation, now, index_by_id(self.journal.known_keys(url)), request.context)
            existing = self._existing(request, rows, viewpoint)
            if existing is not None:
                return self._deliver_existing(request, existing)
            self._weigh_scopes(request, profile)
            self.delivery.check([(Recipient(request.owner, request.name), request.sinks)])
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
        sinks = tuple(str(sink) for sink in request.sinks)
        order = MintOrder(
            OperationKind.CREATE,
            spec,
            rows,
            request.actor,
            request.reason,
            sinks=sinks,
            context=self.delivery.context,
        )
        mint = MintKey(self.server, self.store, self.journal, self.locks, self.clock, self.signals)
        minted = mint.run(order)
        key = replace(minted.issued.key, scheme=scheme_of(viewpoint.generation))
        shown = minted.issued.secret if request.reveal else None
        view = replace(viewpoint.view(key), known=minted.known, secret=shown)
        return self._deliver(request, CreateResult(view, changed=True), minted.issued.secret)

    # --- delivery -----------------------------------------------------------------------------

    def _deliver_existing(self, request: CreateRequest, existing: KeyView) -> CreateResult:
        """A key that was there already is delivered where it was not yet, if its secret is held here."""
        result = CreateResult(existing, changed=False)
        known = existing.known
        if known is None and self.store.kind == NO_STORE:
            return self._take_from_sinks(request, existing)
        if known is None or not self.delivery.outstanding(request.sinks, known):
            return result if known is not None or not request.sinks else replace(result, error=_not_held(existing))
        secret = self.held.of(known)
        if secret is None:
            return replace(result, error=_not_held(existing))
        self.delivery.check([(Recipient(request.owner, request.name, known.id), request.sinks)])
        return self._deliver(request, result, secret)

    def _take_from_sinks(self, request: CreateRequest, existing: KeyView) -> CreateResult:
        """Without a store it is the sinks that know a key which this machine does not."""
        result = CreateResult(existing, changed=False)
        elsewhere = self.find_elsewhere()
        secret = elsewhere.in_sinks(existing.key, request.sinks)
        if secret is None:
            return replace(result, error=_not_held(existing))
        self.delivery.check([(Recipient(request.owner, request.name, existing.key.id), request.sinks)])
        known = replace(elsewhere.known_as_listed(existing.key, secret), awaits_promotion=False)
        self.journal.remember([known])
        return self._deliver(request, replace(result, view=replace(existing, known=known)), secret)

    def _deliver(self, request: CreateRequest, result: CreateResult, secret: Secret) -> CreateResult:
        """Hand the secret over; the key is safe in the store, whatever becomes of that."""
        known = result.view.known
        if known is None or not request.sinks:
            return result
        earlier = tuple(self.journal.receipts(self.server.url, known.id).get(known.id, ()))
        done = self.delivery.deliver(self.delivery.outstanding(request.sinks, known), known, secret)
        receipts = tuple(item.receipt for item in done if item.receipt is not None)
        view = replace(result.view, receipts=(*earlier, *receipts))
        failed = [item for item in done if item.error is not None]
        if not failed:
            return replace(result, view=view)
        sinks = " ".join(f"--to {quote(item.sink)}" for item in failed)
        error = not_delivered(known, failed, f"Mend that, then: blnkctl keys deliver {known.id} {sinks}")
        return replace(result, view=view, error=error)

    def _specify(self, request: CreateRequest, rows: Sequence[ApiKey] | None) -> KeySpec:
        namesakes = [row for row in rows or () if row.name == request.name]
        mark = create_mark(namesakes, random.SystemRandom())
        return KeySpec(request.name, request.owner, request.scopes, with_mark(request.expires_at, mark))


def _refuse_past(request: CreateRequest, now: datetime) -> None:
    """The expiry was checked by the clock here; the server's may be ahead."""
    if request.expires_at <= now:
        raise UsageError(
            "The expiry is past by the server's clock. Nothing was sent.",
            code="expires_in_the_past",
            hint="Compare the clocks with: blnkctl doctor",
        )


def _not_held(view: KeyView) -> Incomplete:
    return Incomplete(
        f"{view.key.id} is there already, and its secret is not held here: it cannot be delivered.",
        code="not_delivered",
        hint="Import its secret (blnkctl keys import), or make another key.",
        target=view.key.id,
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
