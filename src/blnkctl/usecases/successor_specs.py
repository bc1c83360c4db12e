"""What a successor is to be: scopes, lifetime, mark, and where its secret goes. Sends nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blnkctl.domain.keys import ApiKey, KeySpec
from blnkctl.domain.marks import create_mark, next_successor_mark, with_mark
from blnkctl.domain.rotation import oddities, same_lifetime
from blnkctl.domain.scopes import equals_full_access
from blnkctl.domain.sinks import SinkAddress, parse_sink
from blnkctl.domain.successions import Succession, SuccessionKind, SuccessionPhase, Way
from blnkctl.usecases.rotation_errors import no_mark_left

if TYPE_CHECKING:
    from datetime import datetime

    from blnkctl.domain.servers import ServerUrl
    from blnkctl.ports import Approver, Clock, Journal, Reporter
    from blnkctl.usecases.chains import Scene
    from blnkctl.usecases.rotations import RotateRequest
    from blnkctl.usecases.views import KeyView, Viewpoint


@dataclass(frozen=True, slots=True)
class SpecifySuccessor:
    """Makes of an old key and of what was asked for the new one's specification."""

    server: ServerUrl
    journal: Journal
    clock: Clock
    approver: Approver
    reporter: Reporter

    def spec(self, scene: Scene, key: ApiKey, request: RotateRequest) -> KeySpec:
        """Return what is asked for.

        Raises:
            UsageError: no mark is left. Declined: wider scopes were not wanted after all.
        """
        now = scene.viewpoint.now
        scopes = request.change.of(key)
        if request.change:
            self._weigh_scopes(key, scopes, scene.viewpoint)
        for oddity in oddities(key.name, scopes):
            self.reporter.warn(f"{key.id}: {oddity}")
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

    def sinks(self, old: KeyView, request: RotateRequest) -> tuple[SinkAddress, ...]:
        """Return where the new secret goes: as typed, as begun, or where the old one went."""
        if request.sinks is not None:
            return request.sinks
        begun = self.journal.find_succession(self.server, old.key.id)
        remembered = () if begun is None else begun.sinks
        is_made = begun is not None and begun.is_open and begun.new_id is not None
        texts = remembered if is_made else [receipt.sink for receipt in old.receipts] or remembered
        return tuple(parse_sink(text) for text in texts)

    def begun(
        self,
        old: ApiKey,
        request: RotateRequest,
        scopes: tuple[str, ...],
        expires_at: datetime,
        sinks: Sequence[SinkAddress],
    ) -> Succession:
        """Return the succession of a key that nothing was sent for yet."""
        return Succession(
            server=str(self.server),
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
