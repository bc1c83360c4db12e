"""What follows a migration's run: its new keys verified, and in the end the old rows revoked.

An old row is the way back if the server is rolled back: it goes only days after its successor was shown to work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import TYPE_CHECKING

from blnkctl.domain.errors import BlnkctlError, Incomplete
from blnkctl.domain.keys import KeyStatus
from blnkctl.domain.successions import Succession, SuccessionPhase
from blnkctl.usecases.guards import key_lock, require_listing, telling
from blnkctl.usecases.headway import Headway, Tally
from blnkctl.usecases.migrate import in_batches
from blnkctl.usecases.migration_items import Scene, look
from blnkctl.usecases.pool import Pool
from blnkctl.usecases.successors import as_problem
from blnkctl.usecases.views import KeyView

if TYPE_CHECKING:
    from datetime import datetime

    from blnkctl.domain.keys import ApiKey
    from blnkctl.domain.operations import KnownKey
    from blnkctl.domain.probes import ServerProfile
    from blnkctl.domain.secret import Secret
    from blnkctl.domain.servers import ServerUrl
    from blnkctl.ports import Clock, Journal, KeyServer, Locks, SecretStore
    from blnkctl.usecases.revoke import RevokeKeys
    from blnkctl.usecases.secrets import HeldSecrets, VerifyKey

_Piece = tuple[Scene, Succession]


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass over items, owner by owner, by a few threads. `work` raises what is wrong with an item."""

    server: KeyServer
    clock: Clock
    headway: Headway
    threads: int
    work: Callable[[Succession, Scene], None]

    def run(
        self, items: Iterable[Succession], progress: Callable[[Tally], None], is_stopped: Callable[[], bool]
    ) -> None:
        with telling("Nothing was sent."):
            profile = self.server.profile()
        require_listing(profile, self.server.url)
        pool: Pool[_Piece] = Pool(self.threads, self.headway.stop)
        pool.run(self._pieces(items, profile), self._do, self.headway.watched(progress, is_stopped))
        progress(self.headway.tally)

    def _pieces(self, items: Iterable[Succession], profile: ServerProfile) -> Iterator[_Piece]:
        for _, numbered in groupby(in_batches(items), key=lambda one: one[0]):
            batch = [item for _, item in numbered]
            try:
                scene = look(self.server, batch, profile.time_there(self.clock.now()), profile.generation)
            except BlnkctlError as problem:
                for _ in batch:
                    self.headway.failed(problem)
                continue
            yield from ((scene, item) for item in batch)

    def _do(self, piece: _Piece) -> None:
        scene, item = piece
        self.headway.tally.owner = item.old.owner
        try:
            self.work(item, scene)
        except BlnkctlError as problem:
            self.headway.failed(problem)
        else:
            self.headway.done()


@dataclass(frozen=True, slots=True)
class VerifyMigration:
    """Asks of every new key: does the server list it as it was asked for, and accept what the store gives back."""

    server: KeyServer
    store: SecretStore
    journal: Journal
    clock: Clock
    held: HeldSecrets
    verifier: VerifyKey
    headway: Headway
    threads: int = 4

    def run(
        self, items: Iterable[Succession], progress: Callable[[Tally], None], is_stopped: Callable[[], bool]
    ) -> None:
        """Verify what is promoted; the rest is pending.

        Raises:
            StoreUnavailable: secrets cannot be read here. Unsupported: before 0.12.
        """
        self.store.check_readable()
        threads = self.threads if self.store.takes_threads else 1
        promoted = self._opened(item for item in items if not item.is_open)
        _Pass(self.server, self.clock, self.headway, threads, self._verify).run(promoted, progress, is_stopped)

    def _opened(self, items: Iterator[Succession]) -> Iterator[Succession]:
        """Read one secret now: a locked store asks in the main thread, which alone can be interrupted."""
        first = next(items, None)
        if first is None:
            return items
        with suppress(BlnkctlError):  # it is read again, and then counts
            self._read(first)
        return chain([first], items)

    def _verify(self, item: Succession, scene: Scene) -> None:
        problem = self._what_is_wrong(item, scene)
        self._record(item, problem)
        if problem is not None:
            raise problem

    def _record(self, item: Succession, problem: Incomplete | None) -> None:
        """Record what was found, beside what others did to the item meanwhile."""
        now = self.journal.find_succession(self.server.url, item.old.id)
        if now is None or now.new_id != item.new_id:
            return
        verified_at = None if problem is not None else self.clock.now()
        why = None if problem is None else as_problem(problem)
        self.journal.record_succession(replace(now, verified_at=verified_at, problem=why))

    def _what_is_wrong(self, item: Succession, scene: Scene) -> Incomplete | None:
        item = _as_of_now(item, self.server.url, self.journal)
        made = scene.find(item.old.name, item.new_id)
        if made is None or not scene.is_live(made.name, made.id):
            return _not_verified(item, "it is not among the live keys of its owner")
        if made.scopes != item.scopes:
            return _not_verified(item, "it has other scopes than it was to have")
        if scene.is_dead(made):
            return _not_verified(item, _dead(made))
        known, secret = self._read(item)
        if known is None or secret is None:
            return _not_verified(item, "its secret is not held here")
        verification = self.verifier.run(known, secret)
        return None if verification.authenticates else _not_verified(item, verification.reason)

    def _read(self, item: Succession) -> tuple[KnownKey | None, Secret | None]:
        known = None if item.new_id is None else self.journal.find_known(self.server.url, item.new_id)
        return known, None if known is None else self.held.read(known)


@dataclass(frozen=True, slots=True)
class FinishMigration:
    """Revokes the old rows of items that were verified, and promoted by the moment `promoted_by`."""

    server: KeyServer
    journal: Journal
    locks: Locks
    clock: Clock
    revoker: RevokeKeys
    headway: Headway
    promoted_by: datetime
    threads: int = 4

    def is_past(self, item: Succession) -> bool:
        """Tell whether an old row was kept long enough."""
        if item.phase is not SuccessionPhase.PROMOTED or item.promoted_at is None:
            return False
        return item.promoted_at <= self.promoted_by

    def run(
        self, items: Iterable[Succession], progress: Callable[[Tally], None], is_stopped: Callable[[], bool]
    ) -> None:
        """Revoke what is past; one that was not verified is a failure.

        Raises:
            Unsupported: before 0.12.
        """
        past = (item for item in items if self.is_past(item))
        _Pass(self.server, self.clock, self.headway, self.threads, self._finish).run(past, progress, is_stopped)

    def _finish(self, item: Succession, scene: Scene) -> None:
        url, locks = self.server.url, [key_lock(self.server.url, str(id_)) for id_ in (item.old.id, item.new_id)]
        with self.locks.hold(locks, f"the key {item.old.id}"):
            now = self.journal.find_succession(url, item.old.id) or item
            if now.phase is SuccessionPhase.DONE:
                return
            if now.verified_at is None or now.new_id != item.new_id:
                raise _not_verified_yet(item)
            self._revoke(now, scene)
            ended = replace(now, phase=SuccessionPhase.DONE, ended_at=self.clock.now())
            self.journal.record_succession(ended)

    def _revoke(self, item: Succession, scene: Scene) -> None:
        old = scene.find(item.old.name, item.old.id)
        item = _as_of_now(item, self.server.url, self.journal)
        made = scene.find(item.old.name, item.new_id)
        if made is None or not scene.is_live(made.name, made.id):
            raise _not_verified(item, "it is not among the live keys of its owner any more")
        if scene.is_dead(made):
            raise _not_verified(item, _dead(made))
        new = self.journal.find_known(self.server.url, made.id)
        if new is not None and new.is_revoked:  # since the list, which takes minutes to be gone through
            raise _not_verified(item, "it was revoked")
        if old is None:
            raise _not_verified(item, f"the old row {item.old.id} is gone: the server looks restored")
        known = self.journal.find_known(self.server.url, old.id)
        self.revoker.revoke_locked(KeyView(old, KeyStatus.DEAD, known=known))


def _as_of_now(item: Succession, server: ServerUrl, journal: Journal) -> Succession:
    """Return an item with the key that counts by now: a later plan or a rotation may have replaced it."""
    seen, last = {item.old.id}, item
    while last.new_id is not None and last.new_id not in seen:
        seen.add(last.new_id)
        later = journal.find_succession(server, last.new_id)
        if later is None or later.is_open:
            break
        last = later
    return replace(item, new_id=last.new_id, scopes=last.scopes)


def _dead(made: ApiKey) -> str:
    return f"this Core refuses keys of its form ({made.scheme}): it was upgraded or rolled back since"


def _not_verified(item: Succession, why: str) -> Incomplete:
    return Incomplete(
        f"The new key {item.new_id}, for {item.old.id}, is not verified: {why}. The old row stays.",
        code="not_verified",
        hint=f"Look at it: blnkctl keys show {item.new_id}. If it is lost, plan again, and run that:"
        " blnkctl migrate plan --all-owners --out PLAN",
        target=item.old.id,
    )


def _not_verified_yet(item: Succession) -> Incomplete:
    return Incomplete(
        f"{item.old.id} stays: its successor {item.new_id} was not verified.",
        code="not_verified",
        hint="Verify first: blnkctl migrate verify",
        target=item.old.id,
    )
