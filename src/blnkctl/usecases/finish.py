"""Finishing rotations: an old key goes when it is due and its successor is known to work, and never on a list's word.

`domain.finishing` decides; this gathers what it needs and revokes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from blnkctl.domain.errors import BlnkctlError, Incomplete
from blnkctl.domain.finishing import DrainRule, Verdict, judge
from blnkctl.domain.grace import LONGEST_GRACE
from blnkctl.domain.keys import ApiKey, KeyStatus
from blnkctl.domain.sinks import parse_sink
from blnkctl.domain.successions import Succession, SuccessionKind, SuccessionPhase
from blnkctl.usecases.guards import key_lock
from blnkctl.usecases.rotations import Rotation, RotationPhase, as_revoked
from blnkctl.usecases.successors import way_on_with
from blnkctl.usecases.views import KeyView, Viewpoint

if TYPE_CHECKING:
    from datetime import datetime

    from blnkctl.ports import Clock, Journal, KeyServer, Locks, Reporter
    from blnkctl.usecases.listing import KeyReader
    from blnkctl.usecases.made_elsewhere import FindMadeElsewhere
    from blnkctl.usecases.revoke import RevokeKeys
    from blnkctl.usecases.secrets import VerifyKey

_EXACT_TO = timedelta(seconds=2)  # a server's Date has whole seconds
_MAY_GO = (KeyStatus.SUPERSEDED, KeyStatus.DEAD)


@dataclass(frozen=True, slots=True)
class Finishing:
    """An old key, its live successor, what the journal here says of both, and the verdict."""

    old: KeyView
    new: KeyView
    succession: Succession | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class FinishRotations:
    """Revokes the old keys of rotations that are due."""

    server: KeyServer
    journal: Journal
    locks: Locks
    clock: Clock
    reporter: Reporter
    reader: KeyReader
    elsewhere: FindMadeElsewhere
    verifier: VerifyKey
    revoker: RevokeKeys
    rule: DrainRule

    def weigh(self, views: Sequence[KeyView], viewpoint: Viewpoint) -> list[Finishing]:
        """Judge every superseded key among all views of one owner. Sends nothing."""
        by_id = {view.key.id: view for view in views}
        weighed = [self._weighed(view, by_id, viewpoint) for view in views]
        return [one for one in weighed if one is not None]

    def _weighed(self, old: KeyView, by_id: Mapping[str, KeyView], viewpoint: Viewpoint) -> Finishing | None:
        """Judge one key among the views of its owner; None where no rotation of it is to be finished here."""
        if old.superseded_by is None or old.status not in _MAY_GO:
            return None
        judged = self._judged(old, by_id[old.superseded_by], viewpoint)
        return judged if old.status is KeyStatus.SUPERSEDED or _is_rotated_here(judged) else None

    def _judged(self, old: KeyView, new: KeyView, viewpoint: Viewpoint) -> Finishing:
        ours = self._succession(old.key.id, new.key.id)
        if ours is not None and ours.kind is SuccessionKind.MIGRATE:
            return Finishing(old, new, ours, Verdict.STAGED)
        judged = None if ours is None else self._by_the_servers_clock(ours, new.key, viewpoint)
        return Finishing(old, new, ours, judge(old.key, new.key, judged, self.rule, viewpoint.now))

    def _by_the_servers_clock(self, ours: Succession, new: ApiKey, viewpoint: Viewpoint) -> Succession:
        """Tell by the server's clock what is due by the one here: a grace is as long where that is wrong.

        Nor is it shorter where the one here was set forward since: the server knows how old the new key is.
        """
        if ours.due is None or ours.promoted_at is None:
            return ours
        due, age = ours.due + (viewpoint.now - self.clock.now()), viewpoint.now - new.created_at
        missing = min(ours.due - ours.promoted_at - age, LONGEST_GRACE)
        if ours.new_id == new.id and missing > _EXACT_TO:
            due = max(due, viewpoint.now + missing)
        return replace(ours, due=due)

    def _succession(self, old_id: str, new_id: str) -> Succession | None:
        """Return what the journal says of a key that leads to this successor, be it through others."""
        first = at = self.journal.find_succession(self.server.url, old_id)
        while at is not None and not at.is_open and at.new_id not in (None, new_id):
            at = self.journal.find_succession(self.server.url, str(at.new_id))
        return first if at is not None and at.new_id == new_id and (at is first or not at.is_open) else None

    def run(self, planned: Iterable[Finishing], viewpoint: Viewpoint) -> list[Rotation]:
        """Revoke what is due; a failure of one does not stop the next."""
        return [self._finish(one, viewpoint) for one in planned]

    def _finish(self, one: Finishing, viewpoint: Viewpoint) -> Rotation:
        if one.verdict in (Verdict.STAGED, Verdict.OPEN, Verdict.PENDING):
            return self._left(one)
        try:
            with self.locks.hold(self._locks_of(one), f"the key {one.old.key.id}"):
                again = self._look_again(one, viewpoint)
                if again is None:
                    return self._done(one, one.old)
                if again.new.status is KeyStatus.DEAD and again.old.status is not KeyStatus.DEAD:
                    raise _successor_dead(again)
                if again.verdict is Verdict.PROVE:
                    self._prove(again)
                elif again.verdict is not Verdict.REVOKE:
                    return self._left(again)
                return self._revoke(again)
        except BlnkctlError as problem:
            return Rotation(one.old, one.new, RotationPhase.PENDING, _due(one), problem)

    def _locks_of(self, one: Finishing) -> list[str]:
        """Name both: whoever revokes the successor meanwhile takes its lock."""
        return [key_lock(self.server.url, view.key.id) for view in (one.old, one.new)]

    def _look_again(self, one: Finishing, viewpoint: Viewpoint) -> Finishing | None:
        """List once more: a person thought about it meanwhile, and others rotate and revoke too.

        None where the old key was revoked by another.

        Raises:
            Incomplete: the successor does not live any more.
        """
        views = self.reader.views_of(one.old.key.owner, viewpoint)
        by_id = {view.key.id: view for view in views}
        old = by_id.get(one.old.key.id)
        if old is not None and old.key.is_revoked:
            return None
        again = None if old is None else self._weighed(old, by_id, viewpoint)
        if again is None:
            raise _successor_gone(one)
        return again

    def _prove(self, one: Finishing) -> None:
        """Know that the successor's secret is here, and works.

        Raises:
            Incomplete: it is not here, or does not.
        """
        found = self.elsewhere.in_store(one.new.key)
        sinks = [parse_sink(receipt.sink) for receipt in one.old.receipts]
        secret = found[1] if found is not None else self.elsewhere.in_sinks(one.new.key, sinks)
        if secret is None:
            raise _not_proven(one, "its secret is not here")
        known = found[0] if found is not None else self.elsewhere.known_as_listed(one.new.key, secret)
        verification = self.verifier.run(known, secret)
        if not verification.authenticates:
            raise _not_proven(one, verification.reason)

    def _revoke(self, one: Finishing) -> Rotation:
        self.revoker.revoke_locked(one.old)
        return self._done(one, one.old)

    def _done(self, one: Finishing, old: KeyView) -> Rotation:
        now = self.clock.now()
        if one.succession is not None:
            ended = replace(one.succession, phase=SuccessionPhase.DONE, due=None, ended_at=now)
            self.journal.record_succession(ended)
        return Rotation(as_revoked(old, now), one.new, RotationPhase.DONE)

    def _left(self, one: Finishing) -> Rotation:
        if one.verdict is Verdict.PENDING:
            old, new = one.old.key, one.new.key
            problem = _not_proven(one, str(self.rule.unmet(old, new, new.created_at, self.clock.now())))
            return Rotation(one.old, one.new, RotationPhase.PENDING, error=problem)
        if one.verdict is Verdict.OPEN:
            return self._left_open(one)
        if one.succession is None:
            self.reporter.note(_made_elsewhere(one))
        elif one.succession.kind is SuccessionKind.MIGRATE:
            self.reporter.note(f"{one.old.key.id} is part of a migration: blnkctl migrate finish")
        return Rotation(one.old, one.new, RotationPhase.STAGED, _due(one))

    def _left_open(self, one: Finishing) -> Rotation:
        """An open rotation is never due: that is worth telling, and an error only to who asked for more than time."""
        problem = _unfinished(one)
        if self.rule:
            return Rotation(one.old, one.new, RotationPhase.PENDING, error=problem)
        self.reporter.warn(f"{problem.message} {problem.hint}")
        return Rotation(one.old, one.new, RotationPhase.STAGED)


def as_planned(one: Finishing) -> Rotation:
    """Return what would become of an old key."""
    phase = RotationPhase.PENDING if one.verdict is Verdict.PENDING else RotationPhase.STAGED
    return Rotation(one.old, one.new, phase, _due(one))


def _is_rotated_here(one: Finishing) -> bool:
    """Tell whether a dead key is the journal's: that of a migration, or of another machine, is the way back."""
    return one.succession is not None and one.succession.kind is SuccessionKind.ROTATE


def _due(one: Finishing) -> datetime | None:
    return None if one.succession is None else one.succession.due


def _successor_gone(one: Finishing) -> Incomplete:
    return Incomplete(
        f"{one.new.key.id}, which succeeds {one.old.key.id}, does not live any more; nothing was revoked.",
        code="successor_gone",
        hint=f"Rotate again: blnkctl keys rotate {one.old.key.id}",
        target=one.old.key.id,
    )


def _successor_dead(one: Finishing) -> Incomplete:
    return Incomplete(
        f"{one.old.key.id} was left as it is: this server does not accept its successor {one.new.key.id}, which a"
        " newer Core stored.",
        code="successor_dead",
        hint="The server looks rolled back. Whoever uses the old key needs it until the upgrade is made again.",
        target=one.old.key.id,
    )


def _not_proven(one: Finishing, why: str) -> Incomplete:
    return Incomplete(
        f"{one.old.key.id} was left as it is: that its successor {one.new.key.id} works is not shown: {why}.",
        code="successor_not_proven",
        hint="Finish where the rotation was begun, or try again later.",
        target=one.old.key.id,
    )


def _unfinished(one: Finishing) -> Incomplete:
    succession = one.succession
    why = "" if succession is None or succession.problem is None else f": {succession.problem.message.rstrip('.')}"
    way_on = f"blnkctl keys rotate {one.old.key.id}" if succession is None else way_on_with(succession)
    return Incomplete(
        f"The rotation of {one.old.key.id} has not come to its end, so the old key stays{why}.",
        code="rotation_open",
        hint=f"Go on with: {way_on}",
        target=one.old.key.id,
    )


def _made_elsewhere(one: Finishing) -> str:
    return (
        f"{one.new.key.id}, which succeeds {one.old.key.id}, was made elsewhere: whether it is in use is not known"
        " here. To finish all the same: --older-than D or --when-used"
    )
