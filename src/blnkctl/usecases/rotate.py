"""Rotating a key: its successor is made, stored, proven and delivered before the old key may go.

Weighs what is there, here and elsewhere; `successors` carries a succession on, `revoke` ends the old key. Knows no
HTTP, no store's files, no terminal.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import NO_STORE
from blnkctl.domain.errors import BlnkctlError, Incomplete, UsageError
from blnkctl.domain.keys import ApiKey, KeySpec, KeyStatus
from blnkctl.domain.marks import create_mark, find_successors, next_successor_mark, with_mark
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.operations import OperationKind
from blnkctl.domain.rotation import ScopeChange, same_lifetime
from blnkctl.domain.scopes import equals_full_access
from blnkctl.domain.sinks import SinkAddress, parse_sink
from blnkctl.domain.successions import Succession, SuccessionKind, SuccessionPhase, Way
from blnkctl.usecases.deliver import Recipient
from blnkctl.usecases.guards import key_lock, name_lock, refuse_too_many, telling
from blnkctl.usecases.mint import MintKey, MintOrder
from blnkctl.usecases.revoke import HOPELESS, PROOF_LIMIT, ProveRevoked, Revocation, RevokeKeys
from blnkctl.usecases.sink_store import require_sink
from blnkctl.usecases.successors import REJECTED
from blnkctl.usecases.views import KeyView, Viewpoint

if TYPE_CHECKING:
    from blnkctl.domain.secret import Secret
    from blnkctl.ports import Approver, Clock, Journal, KeyServer, Locks, Reporter, SecretStore
    from blnkctl.usecases.adopt import AdoptSecret
    from blnkctl.usecases.deliver import DeliverSecret
    from blnkctl.usecases.listing import KeyReader
    from blnkctl.usecases.made_elsewhere import FindMadeElsewhere
    from blnkctl.usecases.recover import Recover
    from blnkctl.usecases.secrets import HeldSecrets
    from blnkctl.usecases.successors import CarrySuccessor


class RotationPhase(StrEnum):
    """What became of one key's rotation."""

    DONE = "done"
    STAGED = "staged"
    FAILED = "failed"
    PENDING = "pending"


@dataclass(frozen=True, slots=True)
class Rotation:
    """One key's outcome. `due` is when the old key may be revoked; `error` why it is not as it was to be."""

    old: KeyView
    new: KeyView | None
    phase: RotationPhase
    due: datetime | None = None
    error: BlnkctlError | None = None


@dataclass(frozen=True, slots=True)
class RotateRequest:
    """How keys are to be rotated, checked already.

    `sinks` None: those of the old key's receipts. `expires_at` None: the old key's lifetime anew.
    """

    way: Way
    grace: timedelta
    change: ScopeChange = field(default_factory=ScopeChange)
    expires_at: datetime | None = None
    sinks: tuple[SinkAddress, ...] | None = None
    take_over: bool = False
    actor: str = ""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Pair:
    """An old key and, where its rotation was begun, the live key that succeeds it."""

    old: KeyView
    new: KeyView | None = None


@dataclass(frozen=True, slots=True)
class _Scene:
    """All views of one owner, as listed under the lock of the name."""

    views: tuple[KeyView, ...]
    viewpoint: Viewpoint

    @property
    def rows(self) -> list[ApiKey]:
        """The rows."""
        return [view.key for view in self.views]

    def namesakes(self, key: ApiKey) -> list[ApiKey]:
        """Return the rows of a key's name."""
        return [row for row in self.rows if row.name == key.name]

    def find(self, key_id: str | None) -> KeyView | None:
        """Return one key."""
        return next((view for view in self.views if view.key.id == key_id), None)


@dataclass(frozen=True, slots=True)
class RotateKeys:
    """Rotates keys one by one. A chain of successors is one key: what was begun is resumed."""

    server: KeyServer
    store: SecretStore
    journal: Journal
    locks: Locks
    clock: Clock
    approver: Approver
    reporter: Reporter
    reader: KeyReader
    mint: MintKey
    successor: CarrySuccessor
    delivery: DeliverSecret
    held: HeldSecrets
    elsewhere: FindMadeElsewhere
    adopter: AdoptSecret
    recover: Recover
    revoker: RevokeKeys
    wait_progress: Callable[[int, int], None] = lambda _done, _total: None

    def run_all(
        self,
        views: Sequence[KeyView],
        request: RotateRequest,
        viewpoint: Viewpoint,
        progress: Callable[[int, int], None],
        is_stopped: Callable[[], bool],
    ) -> list[Rotation]:
        """Rotate keys one by one; what one meets stops the next only where that would meet the same."""
        outcomes: list[Rotation] = []
        stopped: BlnkctlError | None = None
        for number, view in enumerate(views, 1):
            try:
                if is_stopped():
                    stopped = _interrupted(view)
                if stopped is not None:
                    raise stopped
                outcomes.append(self.run(view, request, viewpoint))
            except BlnkctlError as problem:
                stopped = problem if isinstance(problem, HOPELESS) or is_stopped() else None
                outcomes.append(Rotation(view, None, RotationPhase.FAILED, error=problem))
            progress(number, len(views))
        return outcomes

    def run(self, view: KeyView, request: RotateRequest, viewpoint: Viewpoint) -> Rotation:
        """Rotate one key, or go on with its rotation. Its owner is listed anew, under the lock of its name.

        Raises:
            BlnkctlError: nothing was begun, or `recover` settles it; its message says which.
        """
        key = view.key
        with self.locks.hold([name_lock(self.server.url, key.owner, key.name)], escape_unsafe(view.full_name)):
            self._settle_unfinished(key)
            scene = self._look(key.owner, viewpoint)
            pair = self._pair_of(scene, key.id)
            with self.locks.hold([key_lock(self.server.url, pair.old.key.id)], f"the key {pair.old.key.id}"):
                return self._rotate(scene, pair, request)

    def check(self, views: Sequence[KeyView], request: RotateRequest) -> None:
        """Know, before anything is sent, that new keys can be stored, read back and delivered, each elsewhere.

        Raises:
            StoreUnavailable: this machine cannot read them back. UsageError: the store takes fewer in one change, a
                place is refused, or two keys would land in the same.
        """
        self.store.check_readable()
        refuse_too_many(self.store, len(views))
        planned = [(_recipient(view.key), self._sinks_for(view, request)) for view in views]
        require_sink(self.store, self.delivery, planned)
        self.delivery.check(planned)

    # --- what is there ------------------------------------------------------------------------

    def _settle_unfinished(self, key: ApiKey) -> None:
        """Settle what was sent for this key's successor and not recorded to its end."""
        kinds = (OperationKind.ROTATE, OperationKind.MIGRATE)
        begun = (str(self.server.url), key.owner, key.name)
        operations = [
            one
            for one in self.journal.open_operations()
            if one.kind in kinds and (one.server, one.owner, one.name) == begun
        ]
        for settled in self.recover.settle(operations):
            if settled.error is not None:
                raise settled.error
            self.reporter.note(f"Begun before: {settled.message}")

    def _look(self, owner: str, viewpoint: Viewpoint) -> _Scene:
        with telling("Nothing was sent."):
            return _Scene(tuple(self.reader.views_of(owner, viewpoint)), viewpoint)

    def _pair_of(self, scene: _Scene, key_id: str) -> _Pair:
        subject = scene.find(key_id)
        if subject is None:
            raise _gone(key_id)
        if subject.status is KeyStatus.SUPERSEDED:
            return _Pair(subject, scene.find(subject.superseded_by))
        olds = [view for view in scene.views if view.superseded_by == key_id and view.status is KeyStatus.SUPERSEDED]
        if olds:
            return _Pair(max(olds, key=lambda view: view.key.created_at), subject)
        return self._pair_of_journal(scene, subject)

    def _pair_of_journal(self, scene: _Scene, subject: KeyView) -> _Pair:
        """Pair a key with one that does not work any more: its succession is open all the same."""
        url = self.server.url
        made = self.journal.succession_to(url, subject.key.id)
        old = None if made is None or not made.is_open else scene.find(made.old.id)
        if old is not None:
            return _Pair(old, subject)
        begun = self.journal.find_succession(url, subject.key.id)
        new = None if begun is None or not begun.is_open else scene.find(begun.new_id)
        if new is not None and new.status is KeyStatus.ACTIVE:
            return _Pair(subject, new)
        return _Pair(subject)

    def _rotate(self, scene: _Scene, pair: _Pair, request: RotateRequest) -> Rotation:
        if pair.new is None:
            return self._begin(scene, pair.old, request)
        succession = self._resumable(pair.old, pair.new, request)
        if succession is None:
            return self._take_over(scene, pair, request)
        self.reporter.note(_what_goes_on(pair.old, pair.new, succession))
        if request.way is not Way.COMPROMISED:
            return self._carry_on(scene, pair.old, succession, request)
        proof = self._wait_until_refused(self.revoker.revoke_locked(pair.old), pair.old)
        rotation = self._carry_on(scene, _as_revoked(pair.old, self.clock.now()), succession, request)
        return replace(rotation, error=rotation.error or proof)

    # --- begun elsewhere ----------------------------------------------------------------------

    def _resumable(self, old: KeyView, new: KeyView, request: RotateRequest) -> Succession | None:
        """Return the succession that can be gone on with here: begun here, or its secret is here."""
        ours = self.journal.find_succession(self.server.url, old.key.id)
        if ours is not None and ours.new_id == new.key.id:
            known = self.journal.find_known(self.server.url, new.key.id)
            is_held = known is not None and self.held.read(known) is not None
            return ours if is_held or ours.phase is SuccessionPhase.PROMOTED else None
        found = self._find_made_elsewhere(old, new, request)
        if not found:
            return None
        sinks = self._sinks_for(old, request)
        self.delivery.check([(_recipient(new.key), sinks)])
        adopted = replace(
            self._succession(old.key, request, new.key.scopes, new.key.expires_at, sinks),
            phase=SuccessionPhase.STORED,
            new_id=new.key.id,
        )
        self.journal.record_succession(adopted)
        return adopted

    def _find_made_elsewhere(self, old: KeyView, new: KeyView, request: RotateRequest) -> bool:
        """Find the successor's secret here, and let the index know it."""
        stored = self.elsewhere.in_store(new.key)
        if stored is not None:
            self.journal.remember([stored[0]])
            return True
        secret = self.elsewhere.in_sinks(new.key, self._sinks_for(old, request))
        if secret is not None and self.store.kind == NO_STORE:
            self.journal.remember([self.elsewhere.known_as_listed(new.key, secret)])  # the sink goes on keeping it
        elif secret is not None:
            self.adopter.run([new], secret)
        return secret is not None

    def _take_over(self, scene: _Scene, pair: _Pair, request: RotateRequest) -> Rotation:
        """Revoke a successor that nobody here can prove, and rotate anew; only when that was asked for."""
        assert pair.new is not None
        if not request.take_over:
            raise begun_elsewhere(pair.old.key.id, pair.new.key.id)
        self.approver.approve(
            f"Revoke {pair.new.key.id}, the successor that was made elsewhere, and rotate {pair.old.key.id} anew?",
            consequence="Whoever was given that successor is refused.",
        )
        with self.locks.hold([key_lock(self.server.url, pair.new.key.id)], f"the key {pair.new.key.id}"):
            self.revoker.revoke_locked(pair.new)
        scene = self._look(pair.old.key.owner, scene.viewpoint)
        old = scene.find(pair.old.key.id)
        if old is None:
            raise _gone(pair.old.key.id)
        if old.status is KeyStatus.SUPERSEDED:
            return self._take_over(scene, _Pair(old, scene.find(old.superseded_by)), request)
        return self._begin(scene, old, request)

    # --- a new rotation -----------------------------------------------------------------------

    def _begin(self, scene: _Scene, old: KeyView, request: RotateRequest) -> Rotation:
        before = self.journal.find_succession(self.server.url, old.key.id)
        is_half_done = before is not None and before.is_open and before.way is Way.COMPROMISED
        if is_half_done:
            request = replace(request, way=Way.COMPROMISED)
        elif old.status is KeyStatus.REVOKED:
            raise _revoked(old.key.id)
        spec = self._specify(scene, old.key, request)
        sinks = self._sinks_for(old, request)
        self.delivery.check([(_recipient(old.key), sinks)])
        succession = self._succession(old.key, request, spec.scopes, spec.expires_at, sinks)
        self.journal.record_succession(succession)
        order = MintOrder(
            OperationKind.ROTATE,
            spec,
            scene.rows,
            request.actor,
            request.reason,
            succeeds=old.key.id,
            sinks=succession.sinks,
            context=self.delivery.context,
        )
        if request.way is Way.COMPROMISED:
            return self._replace_compromised(scene, old, succession, order, request)
        minted = self.mint.run(order)
        return self._carry_on(scene, old, self.successor.stored(succession, minted), request)

    def _specify(self, scene: _Scene, key: ApiKey, request: RotateRequest) -> KeySpec:
        now = scene.viewpoint.now
        scopes = request.change.of(key)
        if request.change:
            self._weigh_scopes(key, scopes, scene.viewpoint)
        expires_at = request.expires_at or same_lifetime(key, now)
        namesakes = scene.namesakes(key)
        mark = (
            create_mark(namesakes, random.SystemRandom())
            if request.way is Way.KEEP_OLD
            else next_successor_mark(key.id, namesakes, expires_at)
        )
        if mark is None:
            raise no_mark_left(key.id)
        return KeySpec(key.name, key.owner, scopes, with_mark(expires_at, mark))

    def _weigh_scopes(self, key: ApiKey, scopes: tuple[str, ...], viewpoint: Viewpoint) -> None:
        is_wide = equals_full_access(scopes, viewpoint.generation)
        if is_wide and not equals_full_access(key.scopes, viewpoint.generation):
            self.approver.approve(
                f"Rotate {key.id} to {', '.join(scopes)}?",
                consequence="On this server these scopes equal full access: whoever holds the key can do everything.",
            )

    def _sinks_for(self, old: KeyView, request: RotateRequest) -> tuple[SinkAddress, ...]:
        if request.sinks is not None:
            return request.sinks
        begun = self.journal.find_succession(self.server.url, old.key.id)
        remembered = () if begun is None else begun.sinks
        texts = [receipt.sink for receipt in old.receipts] or list(remembered)
        return tuple(parse_sink(text) for text in texts)

    def _succession(
        self,
        old: ApiKey,
        request: RotateRequest,
        scopes: tuple[str, ...],
        expires_at: datetime,
        sinks: Sequence[SinkAddress],
    ) -> Succession:
        return Succession(
            server=str(self.server.url),
            old=old,
            kind=SuccessionKind.ROTATE,
            way=request.way,
            phase=SuccessionPhase.BEGUN,
            scopes=scopes,
            expires_at=expires_at,
            started_at=self.clock.now(),
            sinks=tuple(str(sink) for sink in sinks),
            actor=request.actor,
            reason=request.reason,
        )

    # --- to its end ---------------------------------------------------------------------------

    def _carry_on(self, scene: _Scene, old: KeyView, succession: Succession, request: RotateRequest) -> Rotation:
        """Prove, deliver, promote; then the old key goes now, later, or never."""
        new: KeyView | None = None
        try:
            proven = self.successor.proven(succession)
            scene = self._look(old.key.owner, scene.viewpoint)
            new = scene.find(succession.new_id)
            if succession.is_open:
                self._yield_to_a_twin(scene, old, proven, new)
            due = None if request.way is Way.KEEP_OLD else self.clock.now() + request.grace
            promoted = self.successor.promoted(proven, due)
        except BlnkctlError as problem:
            phase = RotationPhase.FAILED if problem.code == REJECTED else RotationPhase.PENDING
            return Rotation(old, self._as_known_now(new), phase, error=problem)
        return self._end(old, self._as_known_now(new), promoted, request)

    def _yield_to_a_twin(self, scene: _Scene, old: KeyView, succession: Succession, mine: KeyView | None) -> None:
        """Of two machines that rotate one key at once the later one, which sees it now, takes its own key back."""
        counted = find_successors(scene.rows, scene.viewpoint.now).get(old.key.id)
        if counted in (None, succession.new_id) or mine is None:
            return
        self.revoker.revoke(mine)
        known = self.journal.find_known(self.server.url, mine.key.id)
        if known is not None:
            self.successor.forget_new(known)
        self.successor.taken_back(succession)
        raise begun_elsewhere(old.key.id, str(counted))

    def _as_known_now(self, view: KeyView | None) -> KeyView | None:
        """Return a view with what was recorded of it since the index was read."""
        if view is None:
            return None
        url, key_id = self.server.url, view.key.id
        receipts = tuple(self.journal.receipts(url, key_id).get(key_id, ()))
        return replace(view, known=self.journal.find_known(url, key_id), receipts=receipts)

    def _end(self, old: KeyView, new: KeyView | None, succession: Succession, request: RotateRequest) -> Rotation:
        if request.way is Way.KEEP_OLD or succession.phase is SuccessionPhase.DONE:
            self._record_done(succession)
            return Rotation(old, new, RotationPhase.DONE)
        if request.way is Way.STAGED:
            return Rotation(_as_superseded(old, succession), new, RotationPhase.STAGED, succession.due)
        try:
            self.revoker.revoke_locked(old)
        except BlnkctlError as problem:
            superseded = _as_superseded(old, succession)
            return Rotation(superseded, new, RotationPhase.PENDING, succession.due, problem)
        self._record_done(succession)
        return Rotation(_as_revoked(old, self.clock.now()), new, RotationPhase.DONE)

    def _record_done(self, succession: Succession) -> None:
        self.journal.record_succession(
            replace(succession, phase=SuccessionPhase.DONE, due=None, ended_at=self.clock.now())
        )

    # --- compromised --------------------------------------------------------------------------

    def _replace_compromised(
        self, scene: _Scene, old: KeyView, succession: Succession, order: MintOrder, request: RotateRequest
    ) -> Rotation:
        """The old key goes first: know that a new one can be kept, revoke, wait until it is refused, then create."""
        with self.mint.prepared(order) as send:
            proof = self._wait_until_refused(self.revoker.revoke_locked(old), old)
            minted = send()
        gone = _as_revoked(old, self.clock.now())
        rotation = self._carry_on(scene, gone, self.successor.stored(succession, minted), request)
        return replace(rotation, error=rotation.error or proof)

    def _wait_until_refused(self, revocation: Revocation, old: KeyView) -> BlnkctlError | None:
        """Return why it is not certain that every server process refuses the old key."""
        secret = self._secret_of(old)
        if secret is not None:
            prover = ProveRevoked(self.server, self.clock)
            return prover.run(revocation, secret, PROOF_LIMIT, self.wait_progress).error
        minutes = int(PROOF_LIMIT.total_seconds() // 60)
        self.reporter.warn(
            f"The secret of {old.key.id} is not held here, so that it is refused cannot be proven: waiting"
            f" {minutes} minutes, longer than any server process remembers a key."
        )
        for second in range(int(PROOF_LIMIT.total_seconds())):
            self.wait_progress(second, int(PROOF_LIMIT.total_seconds()))
            self.clock.sleep(1)
        return None

    def _secret_of(self, view: KeyView) -> Secret | None:
        try:
            return None if view.known is None else self.held.of(view.known)
        except BlnkctlError:
            return None


def _interrupted(view: KeyView) -> Incomplete:
    return Incomplete(
        f"Interrupted before {view.key.id} was begun.",
        code="interrupted",
        hint="Run the same command again.",
        target=view.key.id,
    )


def _as_revoked(view: KeyView, now: datetime) -> KeyView:
    key = replace(view.key, is_revoked=True, revoked_at=view.key.revoked_at or now)
    return replace(view, key=key, status=KeyStatus.REVOKED, superseded_by=None)


def _as_superseded(view: KeyView, succession: Succession) -> KeyView:
    status = KeyStatus.SUPERSEDED if view.status is KeyStatus.ACTIVE else view.status
    return replace(view, status=status, superseded_by=succession.new_id)


def _what_goes_on(old: KeyView, new: KeyView, succession: Succession) -> str:
    if succession.is_open:
        return f"Going on with the rotation of {old.key.id} to {new.key.id}."
    return f"{old.key.id} was rotated to {new.key.id} before, and works on until: blnkctl keys finish"


def _recipient(key: ApiKey) -> Recipient:
    return Recipient(key.owner, key.name)


def _gone(key_id: str) -> Incomplete:
    return Incomplete(
        f"{key_id}, listed just now, is gone from the list: the server looks restored. Nothing was sent.",
        code="server_restored",
        hint="Look with: blnkctl keys list",
        target=key_id,
    )


def _revoked(key_id: str) -> UsageError:
    return UsageError(
        f"{key_id} is revoked: there is nothing to rotate. Nothing was sent.",
        code="key_revoked",
        hint="Make a new key with: blnkctl keys create",
        target=key_id,
    )


def begun_elsewhere(old_id: str, new_id: str) -> Incomplete:
    """Return the error for a rotation whose successor this machine cannot prove."""
    return Incomplete(
        f"{old_id} is being rotated elsewhere: its successor {new_id} is live, and its secret is not here.",
        code="begun_elsewhere",
        hint=f"Go on where it was begun; or revoke that successor and rotate anew: blnkctl keys rotate {old_id}"
        " --take-over",
        target=old_id,
    )


def no_mark_left(old_id: str) -> UsageError:
    """Return the error for a key whose four attempts with one expiry are spent."""
    return UsageError(
        f"Four successors of {old_id} that expire in the same second were made before: no mark is left for a fifth."
        " Nothing was sent.",
        code="no_mark_left",
        hint="Give another expiry with --expires.",
        target=old_id,
    )
