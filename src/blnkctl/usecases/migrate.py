"""Running a migration: the canary first, then a few threads that pull their next item; resumable at any point.

Owns which item comes when, and when it is enough. `migration_items` knows what is done for one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from threading import Event, Lock
from typing import TYPE_CHECKING

from blnkctl.domain.errors import BlnkctlError, Incomplete, Unsupported
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import scheme_of
from blnkctl.domain.operations import OperationKind
from blnkctl.domain.successions import Succession
from blnkctl.usecases.escrows import settle_escrows
from blnkctl.usecases.guards import refuse_insecure, require_listing, telling
from blnkctl.usecases.migration_items import MigrateItem, Scene, look
from blnkctl.usecases.pool import Pool
from blnkctl.usecases.revoke import HOPELESS

if TYPE_CHECKING:
    from blnkctl.domain.probes import ServerProfile
    from blnkctl.ports import Clock, Journal, KeyServer, SecretStore
    from blnkctl.usecases.recover import Recover

BATCH = 1000
IN_A_ROW = 3
_TOLD = 20
_JUMP = 30.0


@dataclass(frozen=True, slots=True)
class MigrateOrder:
    """What is to be run. `plan` is a plan's digest, `limit` how many items at most."""

    plan: str
    goal: Generation
    concurrency: int = 4
    keep_going: bool = False
    canary_only: bool = False
    limit: int | None = None


@dataclass(slots=True)
class Tally:
    """How far it is. `errors` are the first few; `stopped` is why not all of it was tried."""

    total: int
    done: int = 0
    failed: int = 0
    owner: str = ""
    errors: list[BlnkctlError] = field(default_factory=list)
    stopped: BlnkctlError | None = None


@dataclass(slots=True)
class _Batch:
    """Items of one owner that were listed together, and how many are still to be tried."""

    items: Sequence[Succession]
    scene: Scene
    listed_at: tuple[float, float]
    left: int = 0
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
    tally: Tally
    _stop: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)
    _in_a_row: int = 0
    _blocked: dict[str, BlnkctlError] = field(default_factory=dict)
    _unconfirmed: dict[int, _Batch] = field(default_factory=dict)

    def run(self, progress: Callable[[Tally], None], is_stopped: Callable[[], bool]) -> Tally:
        """Run until all items were tried, or it is enough.

        Raises:
            Unsupported: the server is not of the plan's generation. StoreUnavailable: the store cannot be used.
        """
        profile = self._check_generation()
        settle_escrows([self.store], self.journal, self.clock.now())
        self._settle_leftovers()
        remaining = self._remaining()
        self._try_canary(remaining, profile)
        if not self._stop.is_set() and not self.order.canary_only:
            self._run_threads(remaining, profile, progress, is_stopped)
        settle_escrows([self.store], self.journal, self.clock.now())
        progress(self.tally)
        return self.tally

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
        refuse_insecure(profile, self.server.url)
        require_listing(profile, self.server.url)
        fits = scheme_of(profile.generation) is scheme_of(self.order.goal)
        if not fits or not profile.generation.is_at_least(self.order.goal):
            raise _not_of_the_plan(str(self.server.url), profile.generation, self.order.goal)
        return profile

    def _settle_leftovers(self) -> None:
        """Settle what was sent and not recorded to its end; what cannot be settled yet is not begun again."""
        kinds = (OperationKind.MIGRATE, OperationKind.ROTATE)
        operations = [
            one for one in self.journal.open_operations() if one.kind in kinds and one.server == str(self.server.url)
        ]
        for settled in self.recover.settle(operations):
            if settled.error is not None and settled.operation.succeeds is not None:
                self._blocked[settled.operation.succeeds] = settled.error

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

    def _try_canary(self, remaining: Iterator[Succession], profile: ServerProfile) -> None:
        """Carry the first item alone, and look at it: an old server behind the balancer would mint dead keys."""
        for item in remaining:
            batch = self._listed([item], profile)
            if batch is None:
                continue
            self._try(item, batch)
            self._close(batch, profile)
            if batch.made:
                self.item = replace(self.item, mint=replace(self.item.mint, tries_store=False))
                return
            if self._stop.is_set():
                return

    # --- threads ------------------------------------------------------------------------------

    def _run_threads(
        self,
        remaining: Iterator[Succession],
        profile: ServerProfile,
        progress: Callable[[Tally], None],
        is_stopped: Callable[[], bool],
    ) -> None:
        def tick() -> None:
            progress(self.tally)
            if is_stopped() and not self._stop.is_set():
                self._enough(_interrupted())

        pool: Pool[_Group] = Pool(self.order.concurrency if self.store.takes_threads else 1, self._stop)
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
            if not self._stop.is_set():
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
                self._failed(self._blocked[item.old.id], counts=False)
        if not ready:
            return None
        try:
            scene = self._look(ready, profile)
        except BlnkctlError as problem:
            for _ in ready:
                self._failed(problem)
            return None
        return _Batch(ready, scene, self._clocks(), left=len(ready))

    def _look(self, items: Sequence[Succession], profile: ServerProfile) -> Scene:
        return look(self.server, items, profile.time_there(self.clock.now()))

    def _try(self, item: Succession, batch: _Batch) -> None:
        self.tally.owner = item.old.owner
        try:
            self._look_again_after_a_jump(batch)
            made = self.item.run(item, batch.scene)
        except BlnkctlError as problem:
            self._failed(problem)
            return
        with self._lock:
            batch.made.append(made)
            self.tally.done += 1
            self._in_a_row = 0

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
            self._failed(problem, counts=False)
            return
        for error in wrong:
            with self._lock:
                self.tally.done -= 1
            batch.made.clear()
            self._failed(error)
            if error.code != "begun_elsewhere":
                self._enough(error)

    # --- enough -------------------------------------------------------------------------------

    def _failed(self, problem: BlnkctlError, *, counts: bool = True) -> None:
        with self._lock:
            self.tally.failed += 1
            self._in_a_row += int(counts)
            if len(self.tally.errors) < _TOLD:
                self.tally.errors.append(problem)
        if isinstance(problem, HOPELESS):
            self._enough(problem)
        elif self._in_a_row >= IN_A_ROW and not self.order.keep_going:
            self._enough(_three_in_a_row(problem))

    def _enough(self, why: BlnkctlError) -> None:
        with self._lock:
            if self.tally.stopped is None:
                self.tally.stopped = why
        self._stop.set()


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


def _three_in_a_row(last: BlnkctlError) -> Incomplete:
    return Incomplete(
        f"{IN_A_ROW} items in a row failed, the last one with: {last.message}",
        code="stopped",
        hint="Mend that; or go on all the same with --keep-going.",
    )


def _interrupted() -> Incomplete:
    return Incomplete("Interrupted; the steps in flight were finished.", code="interrupted")
