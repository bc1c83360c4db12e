"""Planning a migration: every key of the selected owners, and what becomes of it. Changes nothing anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blnkctl.domain.errors import BlnkctlError, Incomplete, StoreUnavailable, UsageError
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, scheme_of
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.plans import Judged, PlanItem, plan_owner
from blnkctl.domain.selectors import Selection
from blnkctl.usecases.revoke import HOPELESS
from blnkctl.usecases.views import KeyView, Viewpoint

if TYPE_CHECKING:
    from blnkctl.domain.servers import ServerUrl
    from blnkctl.ports import Journal
    from blnkctl.usecases.listing import KeyReader


@dataclass(frozen=True, slots=True)
class PlannedKey:
    """A key as it is shown, and its item of the plan."""

    view: KeyView
    item: PlanItem


@dataclass(frozen=True, slots=True)
class MakePlan:
    """Judges keys against the generation that a plan is for. `sinks`: where new keys go, whatever old ones did."""

    server: ServerUrl
    journal: Journal
    viewpoint: Viewpoint
    goal: Generation
    selection: Selection
    sinks: tuple[str, ...] = ()

    def of_lists(self, reader: KeyReader) -> Iterator[PlannedKey]:
        """Yield the keys of each owner, as the server lists them.

        Raises:
            Incomplete: an owner could not be listed: an incomplete list is no plan.
        """
        owners = reader.owners_to_list(Selection(owners=self.selection.owners))
        for owner in owners:
            yield from self._of_owner(self._listed(reader, owner, is_only=len(owners) == 1))

    def _listed(self, reader: KeyReader, owner: str, *, is_only: bool) -> list[KeyView]:
        try:
            return reader.views_of(owner, self.viewpoint)
        except BlnkctlError as problem:
            if is_only or isinstance(problem, HOPELESS):
                raise
            raise _owner_missing(owner, problem) from None

    def of_export(self, keys: Iterable[ApiKey]) -> Iterator[PlannedKey]:
        """Yield the keys of an export, owner by owner.

        Raises:
            UsageError: an id stands there twice.
        """
        by_owner: dict[str, dict[str, ApiKey]] = {}
        for key in keys:
            rows = by_owner.setdefault(key.owner, {})
            if key.id in rows:
                raise UsageError(
                    f"The export holds {key.id} twice. Nothing was sent.",
                    code="bad_export",
                    hint="Export the keys anew: an export has one line a key.",
                )
            rows[key.id] = key
        wanted = self.selection.owners
        for owner in sorted(by_owner):
            if wanted is None or owner in wanted:
                yield from self._of_owner(self.viewpoint.judge(list(by_owner[owner].values())))

    def _of_owner(self, views: Sequence[KeyView]) -> Iterator[PlannedKey]:
        by_id = {view.key.id: view.key for view in views}
        judged = [Judged(view.key, view.status, self._is_superseded(view, by_id)) for view in views]
        items = plan_owner(judged, self.goal, {view.key.id: self._sinks_of(view) for view in views})
        for view, item in zip(views, items, strict=True):
            if self.selection.fits(view.key, view.status):
                yield PlannedKey(view, item)

    def _is_superseded(self, view: KeyView, by_id: Mapping[str, ApiKey]) -> bool:
        """Tell whether a key has its successor; one that was begun here and came to no end yet is gone on with."""
        new = by_id.get(view.superseded_by or "")
        return new is not None and not (new.scheme is scheme_of(self.goal) and self._is_under_way(view.key, new))

    def _is_under_way(self, key: ApiKey, new: ApiKey) -> bool:
        """Tell whether this very successor is not promoted; a later one in its place is another item's."""
        try:
            begun = self.journal.find_succession(self.server, key.id)
        except StoreUnavailable:  # which was told already
            return False
        return begun is not None and begun.is_open and begun.new_id in (None, new.id)

    def _sinks_of(self, view: KeyView) -> tuple[str, ...]:
        return self.sinks or self._sinks_begun(view) or tuple(receipt.sink for receipt in view.receipts)

    def _sinks_begun(self, view: KeyView) -> tuple[str, ...]:
        """Return where a rotation that did not come to its end was to deliver its new key."""
        is_awaiting = view.known is not None and view.known.awaits_promotion
        begun = self.journal.succession_to(self.server, view.key.id) if is_awaiting else None
        return () if begun is None else begun.sinks


def _owner_missing(owner: str, problem: BlnkctlError) -> Incomplete:
    return Incomplete(
        f"The keys of {escape_unsafe(owner)} could not be listed: {problem.message} Nothing was planned.",
        code="list_incomplete",
        hint="Leave that owner out with --owner, or try again.",
        target=owner,
    )
