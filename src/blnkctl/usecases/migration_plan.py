"""The items of a plan as the journal knows them: what was begun of them, and what is taken in anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from blnkctl.domain.errors import UsageError
from blnkctl.domain.plans import Action, PlanItem
from blnkctl.domain.successions import Succession, SuccessionKind, SuccessionPhase, Way

if TYPE_CHECKING:
    from blnkctl.domain.servers import ServerUrl
    from blnkctl.ports import Journal, Plan

_PAGE = 500


@dataclass(frozen=True, slots=True)
class MigrationItems:
    """The items that are recreated: those of a plan; without one, all that plans began on this server.

    `is_unfinished_only`: without a plan, only those whose old row was not revoked yet.
    """

    server: ServerUrl
    journal: Journal
    plan: Plan | None = None
    is_unfinished_only: bool = False

    def __iter__(self) -> Iterator[Succession]:
        return self._of_journal() if self.plan is None else self._of_plan(self.plan)

    def count_left(self) -> int:
        """Return how many are not promoted."""
        return sum(1 for item in self if item.is_open)

    def _of_journal(self) -> Iterator[Succession]:
        after = ("", "")
        while page := self.journal.migrations(self.server, after, _PAGE):
            after = (page[-1].old.owner, page[-1].old.id)
            yield from (
                item for item in page if not self.is_unfinished_only or item.phase is not SuccessionPhase.DONE
            )

    def _of_plan(self, plan: Plan) -> Iterator[Succession]:
        return (begun or begun_by(item, self.server, plan) for item, begun in self._begun(plan))

    def _begun(self, plan: Plan) -> Iterator[tuple[PlanItem, Succession | None]]:
        """Yield each item with what the journal knows of it."""
        for item in _recreated(plan):
            known = self.journal.find_succession(self.server, item.key.id)
            is_outdated = known is not None and known.is_outdated_by(plan.digest, plan.header.created_at)
            yield item, None if is_outdated else known

    def to_do(self, plan: Plan) -> Iterator[PlanItem]:
        """Yield the items of a plan that are not promoted, with the plan's word."""
        return (item for item, begun in self._begun(plan) if begun is None or begun.is_open)


def _recreated(plan: Plan) -> Iterator[PlanItem]:
    """Yield the items that are recreated."""
    return (item for item in plan.items() if item.action is Action.RECREATE)


def begun_by(item: PlanItem, server: ServerUrl, plan: Plan, actor: str = "", reason: str | None = None) -> Succession:
    """Return what the journal keeps of a plan's item that nothing was done about yet."""
    return Succession(
        server=str(server),
        old=item.key,
        kind=SuccessionKind.MIGRATE,
        way=Way.STAGED,
        phase=SuccessionPhase.BEGUN,
        scopes=item.scopes,
        expires_at=item.expires_at,
        started_at=plan.header.created_at,
        sinks=item.sinks,
        actor=actor,
        reason=reason,
        plan=plan.digest,
    )


def take_in(plan: Plan, server: ServerUrl, journal: Journal, actor: str, reason: str | None) -> None:
    """Let the journal know what the plan begins: from here on it is the journal that is gone by."""
    begun = (begun_by(item, server, plan, actor, reason) for item in _recreated(plan))
    for page in _pages(begun):
        journal.plan_successions(page, plan.header.created_at)


def _pages(items: Iterable[Succession]) -> Iterator[list[Succession]]:
    page: list[Succession] = []
    for item in items:
        page.append(item)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page


def refuse_what_is_past(items: Iterable[PlanItem], now: datetime) -> None:
    """Raise UsageError where an expiry was edited to be past; one that passed by itself is told with its item."""
    for item in items:
        if item.expires_at <= now and item.expires_at != item.key.expires_at.replace(microsecond=0):
            raise UsageError(
                f"The plan's new.expires_at of {item.key.id}, {item.expires_at:%Y-%m-%dT%H:%M:%SZ}, is past."
                " Nothing was sent.",
                code="bad_plan",
                hint="Correct it in the plan; or set the key's action to skip.",
                target=item.key.id,
            )


def counted(items: Iterable[Succession]) -> dict[str, int]:
    """Return how many items are promoted and sound, failed last time, and are still to be done."""
    counts = {"done": 0, "failed": 0, "pending": 0}
    for item in items:
        is_failed = item.problem is not None and item.phase is not SuccessionPhase.DONE
        counts["failed" if is_failed else "pending" if item.is_open else "done"] += 1
    return counts
