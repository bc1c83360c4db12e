"""Rotating a key: its successor is made, stored, proven and delivered before the old key may go.

Weighs what is there, here and elsewhere; `successor_specs` says what the new key is to be, `successors` carries a
succession on, `revoke` ends the old key. Knows no HTTP, no store's files, no terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import NO_STORE
from blnkctl.domain.errors import BlnkctlError
from blnkctl.domain.keys import LIVE, ApiKey, KeyStatus
from blnkctl.domain.marks import find_successors
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.operations import OperationKind
from blnkctl.domain.successions import Succession, SuccessionPhase, Way
from blnkctl.usecases.chains import FindPair, Pair, Scene, gone
from blnkctl.usecases.deliver import Recipient
from blnkctl.usecases.guards import key_lock, name_lock, refuse_too_many, require_sink, telling
from blnkctl.usecases.mint import MintKey, MintOrder
from blnkctl.usecases.revoke import HOPELESS, RevokeKeys
from blnkctl.usecases.rotation_errors import (
    begun_elsewhere,
    came_no_further,
    ended_not_replaced,
    interrupted,
    refuse_other_wishes,
    revoked_already,
    successor_ended,
)
from blnkctl.usecases.rotations import (
    RotateRequest,
    Rotation,
    RotationPhase,
    as_it_was_begun,
    as_revoked,
    as_superseded,
)
from blnkctl.usecases.successor_specs import SpecifySuccessor
from blnkctl.usecases.successors import REJECTED
from blnkctl.usecases.views import KeyView, Viewpoint

if TYPE_CHECKING:
    from blnkctl.ports import Approver, Clock, Journal, KeyServer, Locks, Reporter, SecretStore
    from blnkctl.usecases.adopt import AdoptSecret
    from blnkctl.usecases.deliver import DeliverSecret
    from blnkctl.usecases.listing import KeyReader
    from blnkctl.usecases.made_elsewhere import FindMadeElsewhere
    from blnkctl.usecases.recover import Recover
    from blnkctl.usecases.refusal import AwaitRefusal
    from blnkctl.usecases.secrets import HeldSecrets
    from blnkctl.usecases.successors import CarrySuccessor


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
    refusal: AwaitRefusal

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
                    stopped = interrupted(view)
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
            pair = self._pairs(request).of(scene, key.id)
            with self.locks.hold([key_lock(self.server.url, pair.old.key.id)], f"the key {pair.old.key.id}"):
                return self._rotate(scene, pair, request)

    def plan(self, view: KeyView, request: RotateRequest, viewpoint: Viewpoint) -> Rotation:
        """Return what is to be rotated, and how far that came. Sends nothing but a list."""
        pair = self._pairs(request).of(self._look(view.key.owner, viewpoint), view.key.id)
        begun = self.journal.find_succession(self.server.url, pair.old.key.id)
        if pair.new is None or begun is None or begun.is_open or begun.new_id != pair.new.key.id:
            return Rotation(pair.old, pair.new, RotationPhase.PENDING)
        return Rotation(pair.old, pair.new, RotationPhase.STAGED, begun.due)

    def check(self, views: Sequence[KeyView], request: RotateRequest) -> None:
        """Know, before anything is sent, that new keys can be stored, read back and delivered, each elsewhere.

        Raises:
            StoreUnavailable: this machine cannot read them back. UsageError: the store takes fewer in one change, a
                place is refused, or two keys would land in the same.
        """
        self.store.check_readable()
        refuse_too_many(self.store, len(views))
        planned = [(Recipient.succeeding(view.key), self._specifier.sinks(view, request)) for view in views]
        require_sink(self.store, self.delivery, planned)
        self.delivery.check(planned)

    def has_begun(self, view: KeyView) -> bool:
        """Tell whether a key's rotation was begun here and has not come to its end."""
        begun = self.journal.find_succession(self.server.url, view.key.id)
        return begun is not None and begun.is_open

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

    def _look(self, owner: str, viewpoint: Viewpoint) -> Scene:
        with telling("Nothing was sent."):
            return self._list(owner, viewpoint)

    def _list(self, owner: str, viewpoint: Viewpoint) -> Scene:
        return Scene(tuple(self.reader.views_of(owner, viewpoint)), viewpoint)

    def _pairs(self, request: RotateRequest) -> FindPair:
        return FindPair(self.server.url, self.journal, request.way, request.expiring_before)

    @property
    def _specifier(self) -> SpecifySuccessor:
        return SpecifySuccessor(self.server.url, self.journal, self.clock, self.approver, self.reporter)

    def _rotate(self, scene: Scene, pair: Pair, request: RotateRequest) -> Rotation:
        if pair.new is None:
            return self._begin(scene, pair.old, request)
        self._drop_a_late_twin(scene, pair)
        succession = self._resumable(pair.old, pair.new, request)
        if succession is None:
            return self._take_over(scene, pair, request)
        refuse_other_wishes(pair.old.key, succession, request)
        self.reporter.note(_what_goes_on(pair.old, pair.new, succession))
        return self._resume(scene, pair.old, succession, request)

    def _resume(self, scene: Scene, old: KeyView, succession: Succession, request: RotateRequest) -> Rotation:
        """Go on as it was begun, unless told otherwise."""
        if request.way is Way.STAGED and succession.way in (Way.KEEP_OLD, Way.COMPROMISED):
            request = replace(request, way=succession.way)
        is_ended_already = succession.way is Way.COMPROMISED and succession.is_open
        if request.way is not Way.COMPROMISED or is_ended_already:
            return self._carry_on(old, succession, request, scene.viewpoint)
        problem = self.refusal.run(self.revoker.revoke_locked(old), old)
        rotation = self._carry_on(old, succession, request, scene.viewpoint)
        return replace(rotation, error=rotation.error or problem)

    # --- begun elsewhere ----------------------------------------------------------------------

    def _resumable(self, old: KeyView, new: KeyView, request: RotateRequest) -> Succession | None:
        """Return the succession that can be gone on with here: begun here, or its secret is here."""
        ours = self.journal.find_succession(self.server.url, old.key.id)
        if ours is not None and ours.new_id == new.key.id:
            known = self.journal.find_known(self.server.url, new.key.id)
            is_held = known is not None and self.held.read(known) is not None
            return self._with_sinks(ours, request) if is_held or not ours.is_open else None
        found = self._find_made_elsewhere(old, new, request)
        if not found:
            return None
        sinks = self._specifier.sinks(old, request)
        self.delivery.check([(Recipient.succeeding(new.key), sinks)])
        adopted = replace(
            self._specifier.begun(old.key, request, new.key.scopes, new.key.expires_at, sinks),
            phase=SuccessionPhase.STORED,
            new_id=new.key.id,
        )
        self.journal.record_succession(adopted)
        return adopted

    def _with_sinks(self, ours: Succession, request: RotateRequest) -> Succession:
        """Let it be delivered elsewhere than it was to be: a place may be what keeps it from its end."""
        if request.sinks is None or not ours.is_open:
            return ours
        self.delivery.check([(Recipient.succeeding(ours.old), request.sinks)])
        changed = replace(ours, sinks=tuple(str(sink) for sink in request.sinks))
        self.journal.record_succession(changed)
        return changed

    def _find_made_elsewhere(self, old: KeyView, new: KeyView, request: RotateRequest) -> bool:
        """Find the successor's secret here, and let the index know it."""
        stored = self.elsewhere.in_store(new.key)
        if stored is not None:
            if new.known is None or not new.known.is_stored:
                self.journal.remember([stored[0]])
            return True
        secret = self.elsewhere.in_sinks(new.key, self._specifier.sinks(old, request))
        if secret is not None and self.store.kind == NO_STORE:
            self.journal.remember([self.elsewhere.known_as_listed(new.key, secret)])  # the sink goes on keeping it
        elif secret is not None:
            self.adopter.run([new], secret)
        return secret is not None

    def _take_over(self, scene: Scene, pair: Pair, request: RotateRequest) -> Rotation:
        """Revoke a successor that nobody here can prove, and rotate anew; only when that was asked for."""
        assert pair.new is not None
        if not request.take_over:
            raise begun_elsewhere(pair.old.key.id, pair.new.key.id, request.way)
        self.approver.approve(
            f"Revoke {pair.new.key.id}, the successor that was made elsewhere, and rotate {pair.old.key.id} anew?",
            consequence="Whoever was given that successor is refused.",
        )
        with self.locks.hold([key_lock(self.server.url, pair.new.key.id)], f"the key {pair.new.key.id}"):
            self.revoker.revoke_locked(pair.new)
        scene = self._look(pair.old.key.owner, scene.viewpoint)
        old = scene.find(pair.old.key.id)
        if old is None:
            raise gone(pair.old.key.id)
        if old.status is KeyStatus.SUPERSEDED:
            return self._take_over(scene, Pair(old, scene.find(old.superseded_by)), request)
        return self._begin(scene, old, request)

    # --- a new rotation -----------------------------------------------------------------------

    def _begin(self, scene: Scene, old: KeyView, request: RotateRequest) -> Rotation:
        half_done = self._half_done(old)
        if half_done is not None:
            request = as_it_was_begun(half_done, request, scene.viewpoint.now)
        elif old.status is KeyStatus.REVOKED:
            raise revoked_already(old)
        spec = self._specifier.spec(scene, old.key, request)
        sinks = self._specifier.sinks(old, request)
        self.delivery.check([(Recipient.succeeding(old.key), sinks)])
        succession = self._specifier.begun(old.key, request, spec.scopes, spec.expires_at, sinks)
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
        return self._carry_on(old, self.successor.stored(succession, minted), request, scene.viewpoint)

    def _half_done(self, old: KeyView) -> Succession | None:
        """Return the rotation of a compromised key that ended the key, and came no further."""
        before = self.journal.find_succession(self.server.url, old.key.id)
        is_open = before is not None and before.is_open and before.way is Way.COMPROMISED
        return before if is_open and old.status is KeyStatus.REVOKED else None

    # --- to its end ---------------------------------------------------------------------------

    def _carry_on(
        self, old: KeyView, succession: Succession, request: RotateRequest, viewpoint: Viewpoint
    ) -> Rotation:
        """Prove, deliver, promote; then the old key goes now, later, or never."""
        new: KeyView | None = None
        try:
            proven = self.successor.proven(succession)
            scene = self._list(old.key.owner, viewpoint)
            old, new = scene.find(old.key.id) or old, scene.find(succession.new_id)
            self._know_that_it_counts(scene, proven, new)
            due = None if request.way is Way.KEEP_OLD else self.clock.now() + request.grace
            promoted = self.successor.promoted(proven, due)
        except BlnkctlError as problem:
            phase = RotationPhase.FAILED if problem.code == REJECTED else RotationPhase.PENDING
            return Rotation(old, self._as_known_now(new), phase, error=came_no_further(problem, succession))
        return self._end(old, self._as_known_now(new), promoted, request)

    def _know_that_it_counts(self, scene: Scene, succession: Succession, new: KeyView | None) -> None:
        """Know that the new key lives, and that no other machine made an earlier one.

        Raises:
            Incomplete: it does not, or was revoked because it does not count.
        """
        if new is None or new.status not in LIVE:
            raise successor_ended(succession)
        counted = find_successors(scene.rows, scene.viewpoint.now).get(succession.old.id)
        if succession.is_open and succession.way is not Way.KEEP_OLD and counted not in (None, new.key.id):
            self._take_back(new, succession)
            raise begun_elsewhere(succession.old.id, str(counted), succession.way)

    def _drop_a_late_twin(self, scene: Scene, pair: Pair) -> None:
        """Take back what was made here beside an earlier one, if that could not be done at once."""
        ours = self.journal.find_succession(self.server.url, pair.old.key.id)
        mine = None if ours is None or not ours.is_open else scene.find(ours.new_id)
        if ours is None or mine is None or pair.new is None or mine.key.id == pair.new.key.id:
            return
        if mine.status in LIVE and ours.way is not Way.KEEP_OLD:
            self._take_back(mine, ours)

    def _take_back(self, mine: KeyView, succession: Succession) -> None:
        """Of two machines that rotate one key at once the later one, which sees it now, takes its own key back."""
        self.revoker.revoke(mine)
        known = self.journal.find_known(self.server.url, mine.key.id)
        if known is not None:
            self.successor.forget_new(known)
        self.successor.taken_back(succession)

    def _as_known_now(self, view: KeyView | None) -> KeyView | None:
        """Return a view with what was recorded of it since the index was read."""
        if view is None:
            return None
        url, key_id = self.server.url, view.key.id
        receipts = tuple(self.journal.receipts(url, key_id).get(key_id, ()))
        return replace(view, known=self.journal.find_known(url, key_id), receipts=receipts)

    def _end(self, old: KeyView, new: KeyView | None, succession: Succession, request: RotateRequest) -> Rotation:
        if request.way is Way.KEEP_OLD or old.key.is_revoked or succession.phase is SuccessionPhase.DONE:
            self._record_done(succession)
            return Rotation(old, new, RotationPhase.DONE)
        if request.way is Way.STAGED:
            return Rotation(as_superseded(old, succession), new, RotationPhase.STAGED, succession.due)
        try:
            self.revoker.revoke_locked(old)
        except BlnkctlError as problem:
            superseded = as_superseded(old, succession)
            return Rotation(superseded, new, RotationPhase.PENDING, succession.due, problem)
        self._record_done(succession)
        return Rotation(as_revoked(old, self.clock.now()), new, RotationPhase.DONE)

    def _record_done(self, succession: Succession) -> None:
        self.journal.record_succession(
            replace(succession, phase=SuccessionPhase.DONE, due=None, ended_at=self.clock.now())
        )

    # --- compromised --------------------------------------------------------------------------

    def _replace_compromised(
        self, scene: Scene, old: KeyView, succession: Succession, order: MintOrder, request: RotateRequest
    ) -> Rotation:
        """The old key goes first: know that a new one can be kept, revoke, wait until it is refused, then create."""
        with self.mint.prepared(order) as send:
            unproven = self.refusal.run(self.revoker.revoke_locked(old), old)
            try:
                minted = send()
            except BlnkctlError as problem:
                raise ended_not_replaced(problem, succession) from None
        rotation = self._carry_on(old, self.successor.stored(succession, minted), request, scene.viewpoint)
        return replace(rotation, error=rotation.error or unproven)


def _what_goes_on(old: KeyView, new: KeyView, succession: Succession) -> str:
    if succession.is_open:
        return f"Going on with the rotation of {old.key.id} to {new.key.id}."
    return f"{old.key.id} was rotated to {new.key.id} before; going on from there."
