"""What follows a migration's run: its items looked at, verified, and in the end the old rows revoked.

An old row is the way back if the server is rolled back: it goes only days after its successor was shown to work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import groupby
from threading import Event, Lock
from typing import TYPE_CHECKING

from blnkctl.domain.errors import BlnkctlError, Incomplete, NotConfigured, Refused, StoreUnavailable
from blnkctl.domain.keys import KeyStatus
from blnkctl.domain.plans import Action, PlanItem
from blnkctl.domain.successions import Succession, SuccessionKind, SuccessionPhase, Way
from blnkctl.usecases.guards import key_lock, require_listing, telling
from blnkctl.usecases.migrate import Tally, in_batches
from blnkctl.usecases.migration_items import Scene, look
from blnkctl.usecases.pool import Pool
from blnkctl.usecases.successors import as_problem
from blnkctl.usecases.views import KeyView

if TYPE_CHECKING:
    from datetime import datetime

    from blnkctl.domain.probes import ServerProfile
    from blnkctl.domain.servers import ServerUrl
    from blnkctl.ports import Clock, Journal, KeyServer, Locks, SecretStore
    from blnkctl.usecases.revoke import RevokeKeys
    from blnkctl.usecases.secrets import HeldSecrets, VerifyKey

_PAGE = 500
_PIECE = 20
_TOLD = 20
_HOPELESS = (Refused, NotConfigured, StoreUnavailable)


def begun_by(
    item: PlanItem, server: ServerUrl, plan: str, actor: str, reason: str | None, now: datetime
) -> Succession:
    """Return what the journal keeps of a plan's item that nothing was done about yet."""
    return Succession(
        server=str(server),
        old=item.key,
        kind=SuccessionKind.MIGRATE,
        way=Way.STAGED,
        phase=SuccessionPhase.BEGUN,
        scopes=item.scopes,
        expires_at=item.expires_at,
        started_at=now,
        sinks=item.sinks,
        actor=actor,
        reason=reason,
        plan=plan,
    )


@dataclass(frozen=True, slots=True)
class MigrationItems:
    """The items of a plan as the journal knows them; without a plan, all that plans began on this server."""

    server: ServerUrl
    journal: Journal
    planned: Callable[[], Iterator[PlanItem]] | None = None
    plan: str = ""

    def __iter__(self) -> Iterator[Succession]:
        return self._of_journal() if self.planned is None else self._of_plan(self.planned())

    def _of_journal(self) -> Iterator[Succession]:
        after = ("", "")
        while page := self.journal.migrations(self.server, after, _PAGE):
            after = (page[-1].old.owner, page[-1].old.id)
            yield from page

    def _of_plan(self, planned: Iterator[PlanItem]) -> Iterator[Succession]:
        for item in planned:
            if item.action is Action.RECREATE:
                known = self.journal.find_succession(self.server, item.key.id)
                yield known or begun_by(item, self.server, self.plan, "", None, item.key.created_at)


@dataclass(slots=True)
class _Pass:
    """One pass over all items, owner by owner, by a few threads."""

    server: KeyServer
    tally: Tally
    threads: int
    work: Callable[[Succession, Scene], bool]
    stop: Event = field(default_factory=Event)
    lock: Lock = field(default_factory=Lock)

    def run(
        self,
        items: Iterable[Succession],
        profile: ServerProfile,
        now: Callable[[], datetime],
        progress: Callable[[Tally], None],
        is_stopped: Callable[[], bool],
    ) -> None:
        def tick() -> None:
            progress(self.tally)
            if is_stopped() and not self.stop.is_set():
                self.tally.stopped = Incomplete("Interrupted; the steps in flight were finished.", code="interrupted")
                self.stop.set()

        pool: Pool[tuple[Scene, list[Succession]]] = Pool(self.threads, self.stop)
        pool.run(self._pieces(items, profile, now), self._work, tick)
        progress(self.tally)

    def _pieces(
        self, items: Iterable[Succession], profile: ServerProfile, now: Callable[[], datetime]
    ) -> Iterator[tuple[Scene, list[Succession]]]:
        for _, numbered in groupby(in_batches(items), key=lambda one: one[0]):
            batch = [item for _, item in numbered]
            try:
                scene = look(self.server, batch, profile.time_there(now()))
            except BlnkctlError as problem:
                for _ in batch:
                    self._failed(problem)
                continue
            yield from ((scene, batch[at : at + _PIECE]) for at in range(0, len(batch), _PIECE))

    def _work(self, piece: tuple[Scene, list[Succession]]) -> None:
        scene, items = piece
        for item in items:
            if self.stop.is_set():
                return
            self.tally.owner = item.old.owner
            try:
                is_done = self.work(item, scene)
            except BlnkctlError as problem:
                self._failed(problem)
                continue
            with self.lock:
                self.tally.done += int(is_done)

    def _failed(self, problem: BlnkctlError) -> None:
        with self.lock:
            self.tally.failed += 1
            if len(self.tally.errors) < _TOLD:
                self.tally.errors.append(problem)
            if isinstance(problem, _HOPELESS):
                self.tally.stopped = problem
                self.stop.set()


@dataclass(frozen=True, slots=True)
class VerifyMigration:
    """Asks of every new key: does the server list it as it was asked for, and accept what the store gives back."""

    server: KeyServer
    store: SecretStore
    journal: Journal
    clock: Clock
    held: HeldSecrets
    verifier: VerifyKey
    threads: int = 4

    def run(
        self,
        items: Iterable[Succession],
        tally: Tally,
        progress: Callable[[Tally], None],
        is_stopped: Callable[[], bool],
    ) -> Tally:
        """Verify what is promoted; the rest is pending.

        Raises:
            StoreUnavailable: secrets cannot be read here. Unsupported: before 0.12.
        """
        self.store.check_readable()
        profile = _profile(self.server)
        threads = self.threads if self.store.takes_threads else 1
        _Pass(self.server, tally, threads, self._verify).run(items, profile, self.clock.now, progress, is_stopped)
        return tally

    def _verify(self, item: Succession, scene: Scene) -> bool:
        if item.is_open:
            return False
        problem = self._what_is_wrong(item, scene)
        if problem is not None:
            self.journal.record_succession(replace(item, verified_at=None, problem=as_problem(problem)))
            raise problem
        self.journal.record_succession(replace(item, verified_at=self.clock.now(), problem=None))
        return True

    def _what_is_wrong(self, item: Succession, scene: Scene) -> Incomplete | None:
        made = scene.find(item.old.name, item.new_id)
        if made is None or made.is_revoked or made.is_expired(scene.now):
            return _not_verified(item, "it is not among the live keys of its owner")
        if made.scopes != item.scopes:
            return _not_verified(item, "it has other scopes than it was to have")
        known = self.journal.find_known(self.server.url, made.id)
        secret = None if known is None else self.held.read(known)
        if known is None or secret is None:
            return _not_verified(item, "its secret is not held here")
        verification = self.verifier.run(known, secret)
        return None if verification.authenticates else _not_verified(item, verification.reason)


@dataclass(frozen=True, slots=True)
class FinishMigration:
    """Revokes the old rows of items that were verified, so long after they were promoted."""

    server: KeyServer
    journal: Journal
    locks: Locks
    clock: Clock
    revoker: RevokeKeys
    after: timedelta
    threads: int = 4

    def is_due(self, item: Succession) -> bool:
        """Tell whether an old row may go, as far as the journal knows."""
        if item.phase is not SuccessionPhase.PROMOTED or item.promoted_at is None or item.verified_at is None:
            return False
        return item.promoted_at + self.after <= self.clock.now()

    def run(
        self,
        items: Iterable[Succession],
        tally: Tally,
        progress: Callable[[Tally], None],
        is_stopped: Callable[[], bool],
    ) -> Tally:
        """Revoke what is due; an item that is promoted and not verified is a failure, what is not due is pending.

        Raises:
            Unsupported: before 0.12.
        """
        profile = _profile(self.server)
        _Pass(self.server, tally, self.threads, self._finish).run(
            items, profile, self.clock.now, progress, is_stopped
        )
        return tally

    def _finish(self, item: Succession, scene: Scene) -> bool:
        if item.phase is SuccessionPhase.DONE:
            return True
        if item.is_open or not self._is_past(item):
            return False
        if item.verified_at is None:
            raise _not_verified_yet(item)
        url, key_id = self.server.url, item.old.id
        with self.locks.hold([key_lock(url, key_id)], f"the key {key_id}"):
            self._revoke(item, scene)
        ended = replace(item, phase=SuccessionPhase.DONE, ended_at=self.clock.now())
        self.journal.record_succession(ended)
        return True

    def _is_past(self, item: Succession) -> bool:
        return item.promoted_at is not None and item.promoted_at + self.after <= self.clock.now()

    def _revoke(self, item: Succession, scene: Scene) -> None:
        old, new = scene.find(item.old.name, item.old.id), scene.find(item.old.name, item.new_id)
        if new is None or new.is_revoked or new.is_expired(scene.now):
            raise _not_verified(item, "it is not among the live keys of its owner any more")
        if old is None:
            raise _not_verified(item, f"the old row {item.old.id} is gone: the server looks restored")
        known = self.journal.find_known(self.server.url, old.id)
        self.revoker.revoke_locked(KeyView(old, KeyStatus.DEAD, known=known))


def _profile(server: KeyServer) -> ServerProfile:
    with telling("Nothing was sent."):
        profile = server.profile()
    require_listing(profile, server.url)
    return profile


def counted(items: Iterable[Succession]) -> dict[str, int]:
    """Return how many items are promoted, failed last time, and are still to be done."""
    counts = {"done": 0, "failed": 0, "pending": 0}
    for item in items:
        counts["pending" if item.is_open and item.problem is None else "failed" if item.is_open else "done"] += 1
    return counts


def _not_verified(item: Succession, why: str) -> Incomplete:
    return Incomplete(
        f"The new key {item.new_id}, for {item.old.id}, is not verified: {why}. The old row stays.",
        code="not_verified",
        hint="Look at it: blnkctl keys show " + (item.new_id or item.old.id),
        target=item.old.id,
    )


def _not_verified_yet(item: Succession) -> Incomplete:
    return Incomplete(
        f"{item.old.id} stays: its successor {item.new_id} was not verified.",
        code="not_verified",
        hint="Verify first: blnkctl migrate verify",
        target=item.old.id,
    )
