"""Which keys belong together: an old one and the live one that succeeds it, by the list and by the journal here.

Changes nothing, and asks nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blnkctl.domain.errors import Incomplete
from blnkctl.domain.keys import ApiKey, KeyStatus
from blnkctl.domain.marks import find_late_twins
from blnkctl.domain.successions import Succession, Way
from blnkctl.usecases.views import KeyView, Viewpoint

if TYPE_CHECKING:
    from datetime import datetime

    from blnkctl.domain.servers import ServerUrl
    from blnkctl.ports import Journal


@dataclass(frozen=True, slots=True)
class Pair:
    """An old key and, where its rotation was begun, the live key that succeeds it."""

    old: KeyView
    new: KeyView | None = None


@dataclass(frozen=True, slots=True)
class Scene:
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

    def superseded_by(self, key_id: str) -> list[KeyView]:
        """Return the live keys that this one succeeds."""
        return [view for view in self.views if view.superseded_by == key_id and view.status is KeyStatus.SUPERSEDED]


@dataclass(frozen=True, slots=True)
class FindPair:
    """Finds the pair that a key belongs to: a chain of successors is one key.

    But a successor that leaked, or one that ends before `expiring_before`, is itself to be replaced, whatever became
    of the key before it.
    """

    server: ServerUrl
    journal: Journal
    way: Way
    expiring_before: datetime | None = None

    def of(self, scene: Scene, key_id: str) -> Pair:
        """Return the pair of a listed key.

        Raises:
            Incomplete: it is not listed any more.
        """
        subject = scene.find(key_id)
        if subject is None:
            raise gone(key_id)
        if subject.status is KeyStatus.SUPERSEDED:
            return Pair(subject, scene.find(subject.superseded_by))
        made = self.journal.succession_to(self.server, key_id)
        if self._is_itself_replaced(subject, made):
            return self._as_old(scene, subject)
        counted = find_late_twins(scene.rows, scene.viewpoint.now).get(key_id, key_id)
        olds = scene.superseded_by(counted)
        if olds:
            return Pair(max(olds, key=lambda view: view.key.created_at), scene.find(counted))
        return self._by_journal(scene, subject, made)

    def _is_itself_replaced(self, subject: KeyView, made: Succession | None) -> bool:
        is_open = made is not None and made.is_open
        if self.way is Way.COMPROMISED:
            return not is_open or made is None or made.way is not Way.COMPROMISED
        return not is_open and self.expiring_before is not None and subject.key.expires_at <= self.expiring_before

    def _by_journal(self, scene: Scene, subject: KeyView, made: Succession | None) -> Pair:
        """Pair a key with one that does not work any more: its succession is open all the same."""
        old = scene.find(made.old.id) if made is not None and made.is_open else None
        return Pair(old, subject) if old is not None else self._as_old(scene, subject)

    def _as_old(self, scene: Scene, subject: KeyView) -> Pair:
        begun = self.journal.find_succession(self.server, subject.key.id)
        new = scene.find(begun.new_id) if begun is not None and begun.is_open else None
        return Pair(subject, new if new is not None and new.status is KeyStatus.ACTIVE else None)


def ends_of_chains(views: Sequence[KeyView], now: datetime) -> list[KeyView]:
    """Return the views that no live key succeeds, but for what two machines made at once and one takes back."""
    twins = find_late_twins([view.key for view in views], now)
    return [view for view in views if view.status is not KeyStatus.SUPERSEDED and view.key.id not in twins]


def gone(key_id: str) -> Incomplete:
    """Return the error for a key that was listed and is not any more: rows are never deleted."""
    return Incomplete(
        f"{key_id}, listed just now, is gone from the list: the server looks restored. Nothing was sent.",
        code="server_restored",
        hint="Look with: blnkctl keys list",
        target=key_id,
    )
