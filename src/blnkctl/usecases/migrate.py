"""Running a migration: the canary first, then a few threads that pull their next item; resumable at any point.

Owns which item comes when, and when it is enough. `migration_items` knows what is done for one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from threading import Lock
from typing import TYPE_CHECKING

from blnkctl.domain.errors import BlnkctlError, Unsupported
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import scheme_of
from blnkctl.domain.operations import Operation
from blnkctl.domain.successions import Succession, SuccessionPhase
from blnkctl.usecases.escrows import settle_escrows
from blnkctl.usecases.guards import operation_lock, refuse_insecure, require_listing, telling
from blnkctl.usecases.headway import Headway, Tally
from blnkctl.usecases.migration_items import OVERTAKEN, MigrateItem, Scene, look
from blnkctl.usecases.pool import Pool

if TYPE_CHECKING:
    from blnkctl.domain.probes import ServerProfile
    from blnkctl.ports import Clock, Journal, KeyServer, SecretStore
    from blnkctl.usecases.recover import Recover

BATCH = 1000
_JUMP = 30.0


@dataclass(frozen=True, slots=True)
class MigrateOrder:
    """What is to be run. `plan` is a plan's digest, `limit` how many items at most."""

    plan: str
    goal: Generation
    concurrency: int = 4
    canary_only: bool = False
    limit: int | None = None


@dataclass(slots=True)
class _Batch:
    """Items of one owner that were listed together, and how many are still to be tried."""

    items: Sequence[Succession]
    scene: Scene
    listed_at: tuple[float, float]
    left: int
    made: list[Succession] = field(default_factory=list)


_Group = tuple[_Batch, list[Succession]]


@dataclass(slots=True)
class MigrateKeys:
    """Carries the items of a plan to promoted."""

    server: KeyServer
    store: SecretStore
    journal: Journal
    clock: Clock
    recover: Recover
    item: MigrateItem
    order: MigrateOrder
    headway: Headway
    _lock: Lock = field(default_factory=Lock)
    _blocked: dict[str, BlnkctlError] = field(default_factory=dict)
    _unconfirmed: dict[int, _Batch] = field(default_factory=dict)

    def run(self, progress: Callable[[Tally], None], is_stopped: Callable[[], bool]) -> None:
        """Run until all items were tried, or it is enough.

        Raises:
            Unsupported: the server is not of the plan's generation. StoreUnavailable: the store cannot be used.
        """
        tick = self.headway.watched(progress, is_stopped)
        profile = self._check_generation()
        settle_escrows([self.store], self.journal, self.clock.now())
        self._settle_leftovers()
        remaining = self._remaining()
        self._try_canary(remaining, profile, tick)
        tick()
        if not self.headway.is_over and not self.order.canary_only:
            self._run_threads(remaining, profile, tick)
        settle_escrows([self.store], self.journal, self.clock.now())
        progress(self.headway.tally)

    # --- before -------------------------------------------------------------------------------

    def check(self) -> None:
        """Know, before anybody is asked, that it can be run at all.

        Raises:
            Unsupported: the server is not of the plan's generation. StoreUnavailable: no secret can be read back.
        """
        self.store.check_readable()
        self._check_generation()

    def _check_generation(self) -> ServerProfile:
        with telling("Nothing was sent."):
            profile = self.server.profile(check_secure=True)
        fits = scheme_of(profile.generation) is scheme_of(self.order.goal)
        if not fits or not profile.generation.is_at_least(self.order.goal):
            raise _not_of_the_plan(str(self.server.url), profile.generation, self.order.goal)
        require_listing(profile, self.server.url)
        refuse_insecure(profile, self.server.url)
        return profile

    def _settle_leftovers(self) -> None:
        """Settle what was sent and not recorded to its end; what cannot be settled yet is not begun again."""
        operations = [one for one in self.journal.open_operations() if self._is_leftover(one)]
        for settled in self.recover.settle(operations):
            if settled.error is not None and settled.operation.succeeds is not None:
                self._blocked[settled.operation.succeeds] = settled.error

    def _is_leftover(self, operation: Operation) -> bool:
        """Tell whether an operation made a successor here, and does not run any more."""
        if operation.succeeds is None or operation.server != str(self.server.url):
            return False
        return not self.recover.locks.is_held(operation_lock(operation.id))

    def _remaining(self) -> Iterator[Succession]:
        """Yield the plan's items that are not promoted, owner by owner, page by page."""
        after, left = ("", ""), self.order.limit
        while page := self.journal.open_successions(self.server.url, self.order.plan, after, BATCH):
            after = (page[-1].old.owner, page[-1].old.id)
            for item in page:
                if left == 0:
                    return
                left = None if left is None else left - 1
                yield item

    # --- the canary ---------------------------------------------------------------------------

    def _try_canary(self, remaining: Iterator[Succession], profile: ServerProfile, tick: Callable[[], None]) -> None:
        """Carry items one by one until this server made one that is as it must be.

        An old server behind the balancer would mint dead keys; what an earlier run made proves nothing of this one.
        """
        for item in remaining:
            tick()
            if self.headway.is_over:
                return
            batch = self._listed([item], profile)
            if batch is None:
                continue
            self._try(item, batch)
            self._close(batch, profile)
            if batch.made and item.phase is SuccessionPhase.BEGUN:
                self.item = replace(self.item, mint=replace(self.item.mint, tries_store=False))
                return

    # --- threads ------------------------------------------------------------------------------

    def _run_threads(self, remaining: Iterator[Succession], profile: ServerProfile, tick: Callable[[], None]) -> None:
        threads = self.order.concurrency if self.store.takes_threads else 1
        pool: Pool[_Group] = Pool(threads, self.headway.stop)
        pool.run(self._listed_groups(remaining, profile), lambda group: self._work(group, profile), tick)
        for batch in list(self._unconfirmed.values()):  # those that were begun when it was enough
            self._close(batch, profile)

    def _listed_groups(self, remaining: Iterator[Succession], profile: ServerProfile) -> Iterator[_Group]:
        """List each owner before its first item, a little ahead of the workers."""
        for _, numbered in groupby(in_batches(remaining), key=lambda one: one[0]):
            batch = self._listed([item for _, item in numbered], profile)
            if batch is not None:
                self._unconfirmed[id(batch)] = batch
                yield from ((batch, group) for group in _by_name(batch.items))

    def _work(self, group: _Group, profile: ServerProfile) -> None:
        batch, items = group
        for item in items:
            if not self.headway.is_over:
                self._try(item, batch)
        if self._is_last(batch, len(items)):
            self._close(batch, profile)

    def _is_last(self, batch: _Batch, count: int) -> bool:
        with self._lock:
            batch.left -= count
            if batch.left == 0:
                self._unconfirmed.pop(id(batch))
            return batch.left == 0

    # --- one batch ----------------------------------------------------------------------------

    def _listed(self, items: Sequence[Succession], profile: ServerProfile) -> _Batch | None:
        """List an owner; what cannot be begun now is counted as failed."""
        ready = [item for item in items if item.old.id not in self._blocked]
        for item in items:
            if item.old.id in self._blocked:
                self.headway.failed(self._blocked[item.old.id], is_a_sign=False)
        if not ready:
            return None
        try:
            return _Batch(ready, self._look(ready, profile), self._clocks(), len(ready))
        except BlnkctlError as problem:
            for _ in ready:
                self.headway.failed(problem)
            return None

    def _look(self, items: Sequence[Succession], profile: ServerProfile) -> Scene:
        return look(self.server, items, profile.time_there(self.clock.now()))

    def _try(self, item: Succession, batch: _Batch) -> None:
        self.headway.tally.owner = item.old.owner
        try:
            self._look_again_after_a_jump(batch)
            made = self.item.run(item, batch.scene)
        except BlnkctlError as problem:
            self.headway.failed(problem, is_a_sign=problem.code not in OVERTAKEN)
            return
        batch.made.append(made)
        self.headway.done()

    def _look_again_after_a_jump(self, batch: _Batch) -> None:
        """A machine that slept knows nothing of what happened meanwhile."""
        wall, steady = self._clocks()
        listed_wall, listed_steady = batch.listed_at
        if abs((wall - listed_wall) - (steady - listed_steady)) > _JUMP:
            profile = self._check_generation()
            batch.scene = self._look(batch.items, profile)
            batch.listed_at = (wall, steady)

    def _clocks(self) -> tuple[float, float]:
        return self.clock.now().timestamp(), self.clock.monotonic()

    def _close(self, batch: _Batch, profile: ServerProfile) -> None:
        """List the owner again behind the last item: what was made must be there, live, and as this Core makes it."""
        made = [item for item in batch.made if item.new_id is not None]
        if not made:
            return
        try:
            wrong = self.item.confirm(made, self._look(made, profile))
        except BlnkctlError as problem:
            batch.made.clear()
            self.headway.trouble(problem)
            return
        for error in wrong:
            batch.made.clear()
            self.headway.undone(error)
            if error.code != "begun_elsewhere":
                self.headway.enough(error)


def in_batches(items: Iterable[Succession]) -> Iterator[tuple[int, Succession]]:
    """Number items so that all of one number are of one owner, and no more than can be listed together."""
    number, owner, count = 0, None, 0
    for item in items:
        if item.old.owner != owner or count == BATCH:
            number, owner, count = number + 1, item.old.owner, 0
        count += 1
        yield number, item


def _by_name(items: Sequence[Succession]) -> list[list[Succession]]:
    """Keys of one name are carried one after the other: each looks at its namesakes."""
    groups: dict[str, list[Succession]] = {}
    for item in items:
        groups.setdefault(item.old.name, []).append(item)
    return list(groups.values())


def _not_of_the_plan(url: str, generation: Generation, goal: Generation) -> Unsupported:
    return Unsupported(
        f"{url} runs Core {generation.label}, and the plan is for {goal.label}: keys made now would not be those that"
        " it is for. Nothing was sent.",
        code="not_of_the_plan",
        hint="Upgrade the server first; or plan for what it is: blnkctl migrate plan",
    )
