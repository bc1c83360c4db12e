"""One item of a migration, from what the owner's list shows to promoted. Old rows are never revoked here.

Knows nothing of plans' files, of threads, and of how many items there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import NO_STORE
from blnkctl.domain.errors import BlnkctlError, Incomplete
from blnkctl.domain.generations import Generation
from blnkctl.domain.keys import ApiKey, KeySpec, KeyStatus, StorageScheme, scheme_of, status_of
from blnkctl.domain.marks import find_successors, next_successor_mark, with_mark
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.operations import OperationKind
from blnkctl.domain.sinks import parse_sink
from blnkctl.domain.successions import Succession, SuccessionPhase
from blnkctl.usecases.deliver import Recipient
from blnkctl.usecases.guards import key_lock, name_lock, revoke_for_certain
from blnkctl.usecases.mint import MintKey, MintOrder
from blnkctl.usecases.views import KeyView

if TYPE_CHECKING:
    from blnkctl.domain.secret import Secret
    from blnkctl.ports import Journal, KeyServer, Locks
    from blnkctl.usecases.adopt import AdoptSecret
    from blnkctl.usecases.deliver import DeliverSecret
    from blnkctl.usecases.made_elsewhere import FindMadeElsewhere
    from blnkctl.usecases.revoke import RevokeKeys
    from blnkctl.usecases.successors import CarrySuccessor


_FEW_ROWS = 1000  # which are listed once more before each delivery
OVERTAKEN = ("expired_meanwhile", "revoked_meanwhile")  # says nothing of how the next item will fare


@dataclass(slots=True)
class Scene:
    """What an owner's list showed of some names, how many rows the owner has, and the server's time then.

    `generation` is the server's where it matters which keys it accepts.
    """

    rows: dict[str, list[ApiKey]]
    owners_rows: int
    now: datetime
    generation: Generation | None = None
    successors: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for namesakes in self.rows.values():
            self.successors |= find_successors(namesakes, self.now)

    def find(self, name: str, key_id: str | None) -> ApiKey | None:
        """Return one row."""
        return next((row for row in self.rows.get(name, ()) if row.id == key_id), None)

    def successor_of(self, key: ApiKey) -> ApiKey | None:
        """Return the live row that succeeds a key."""
        return self.find(key.name, self.successors.get(key.id))

    def is_live(self, name: str, key_id: str | None) -> bool:
        """Tell whether a row is there and may be used."""
        row = self.find(name, key_id)
        return row is not None and not row.is_revoked and not row.is_expired(self.now)

    def is_dead(self, row: ApiKey) -> bool:
        """Tell whether an upgrade killed a row, as far as it is known what the server is."""
        return self.generation is not None and status_of(row, self.generation, self.now) is KeyStatus.DEAD

    def changed(self, row: ApiKey) -> None:
        """Take in a row that was made or revoked since. Threads share this; each name is one thread's."""
        namesakes = [one for one in self.rows.get(row.name, ()) if one.id != row.id]
        self._replace(row.name, [*namesakes, row])

    def take_in(self, newer: Scene) -> None:
        """Take in what a newer list showed."""
        for name, namesakes in newer.rows.items():
            self._replace(name, namesakes)

    def _replace(self, name: str, namesakes: list[ApiKey]) -> None:
        self.rows[name] = namesakes
        for one in namesakes:
            self.successors.pop(one.id, None)
        self.successors |= find_successors(namesakes, self.now)


def look(
    server: KeyServer, items: Sequence[Succession], now: datetime, generation: Generation | None = None
) -> Scene:
    """List the owner of some items, and keep only what is about their names.

    Raises:
        BlnkctlError: the owner cannot be listed.
    """
    names = {item.old.name for item in items}
    rows: dict[str, list[ApiKey]] = {}
    count = 0
    for row in server.list_keys(items[0].old.owner):
        count += 1
        if row.name in names:
            rows.setdefault(row.name, []).append(row)
    return Scene(rows, count, now, generation)


@dataclass(frozen=True, slots=True)
class MigrateItem:
    """Recreates one key, or goes on with that."""

    server: KeyServer
    journal: Journal
    locks: Locks
    mint: MintKey
    successor: CarrySuccessor
    delivery: DeliverSecret
    elsewhere: FindMadeElsewhere
    adopter: AdoptSecret
    revoker: RevokeKeys
    goal: Generation
    take_over: bool = False

    def run(self, planned: Succession, scene: Scene) -> Succession:
        """Carry an item to promoted; the owner's other rows are as `scene` shows them.

        Raises:
            BlnkctlError: why it did not get there; noted with the item.
        """
        old, url = planned.old, self.server.url
        names = [name_lock(url, old.owner, old.name), key_lock(url, old.id)]
        try:
            with self.locks.hold(names, escape_unsafe(f"{old.owner}/{old.name}")):
                return self._carry(self.journal.find_succession(url, old.id) or planned, scene)
        except BlnkctlError as problem:
            self._note(planned, problem)
            raise

    def _carry(self, item: Succession, scene: Scene) -> Succession:
        if not item.is_open:
            return item
        row = scene.find(item.old.name, item.old.id)
        if row is None:
            raise _gone(item.old)
        if item.new_id is not None and not self._has_its_key(item, scene):
            item = self.successor.taken_back(item)
        if item.phase is SuccessionPhase.BEGUN:
            item = self._begin(item, row, scene)
        item = self.successor.proven(item)
        self._know_that_it_counts(item, scene)
        return self.successor.promoted(item, None)

    def _know_that_it_counts(self, item: Succession, scene: Scene) -> None:
        """Know, before a place is written that others may write too, that no other machine made an earlier one."""
        if not item.sinks or scene.owners_rows > _FEW_ROWS:
            return
        now = look(self.server, [item], scene.now)
        made = now.find(item.old.name, item.new_id)
        problem = None if made is None else self._of_two(item, made, now)
        if problem is not None:
            raise problem

    def _has_its_key(self, item: Succession, scene: Scene) -> bool:
        """Tell whether the new key can be gone on with; where its secret is lost, taking over revokes it."""
        if scene.find(item.old.name, item.new_id) is None:  # another process may have made it since the list
            scene.take_in(look(self.server, [item], scene.now))
        made = scene.find(item.old.name, item.new_id)
        if made is None or not scene.is_live(made.name, made.id):
            return False
        if self.take_over and not self.successor.is_held(item):
            self._revoke_made_elsewhere(made, scene)
            return False
        return True

    def _begin(self, item: Succession, row: ApiKey, scene: Scene) -> Succession:
        if row.is_revoked:
            raise _ended(item.old, "revoked")
        while (made := scene.successor_of(item.old)) is not None:
            found = self._found_elsewhere(item, made)
            if found is not None:
                return found
            self._revoke_made_elsewhere(made, scene)
        return self._make(item, scene)

    def _make(self, item: Succession, scene: Scene) -> Succession:
        namesakes = scene.rows.get(item.old.name, [])
        if item.expires_at <= scene.now:
            raise _ended(item.old, "expired")
        if any(operation.succeeds == item.old.id for operation in self.journal.open_operations()):
            raise _not_settled(item.old)
        mark = next_successor_mark(item.old.id, namesakes, item.expires_at)
        if mark is None:
            raise _no_mark_left(item.old)
        self.delivery.check([(Recipient.succeeding(item.old), [parse_sink(text) for text in item.sinks])])
        spec = KeySpec(item.old.name, item.old.owner, item.scopes, with_mark(item.expires_at, mark))
        order = MintOrder(
            OperationKind.MIGRATE,
            spec,
            namesakes,
            item.actor,
            item.reason,
            succeeds=item.old.id,
            rows_before=scene.owners_rows,
            sinks=item.sinks,
            context=self.delivery.context,
        )
        minted = self.mint.run(order)
        scene.changed(minted.issued.key)
        return self.successor.stored(item, minted)

    def _note(self, planned: Succession, problem: BlnkctlError) -> None:
        """Remember why, where the journal takes it."""
        item = self.journal.find_succession(self.server.url, planned.old.id)
        if item is not None and item.is_open:
            self.successor.noted(item, problem)

    # --- begun elsewhere ----------------------------------------------------------------------

    def _found_elsewhere(self, item: Succession, made: ApiKey) -> Succession | None:
        """Return the item with a successor that is there already, if it can be proven from here."""
        known = self.journal.find_known(self.server.url, made.id)
        if not self.take_over:
            if known is not None and known.is_stored and not known.is_revoked:
                return self._adopted(item, made)
            raise _begun_elsewhere(item.old, made)
        stored = self.elsewhere.in_store(made)
        if stored is not None:
            self.journal.remember([stored[0]])
        else:
            secret = self.elsewhere.in_sinks(made, [parse_sink(text) for text in item.sinks])
            if secret is None:
                return None
            self._keep(made, secret)
        return self._adopted(item, made)

    def _adopted(self, item: Succession, made: ApiKey) -> Succession:
        adopted = replace(item, phase=SuccessionPhase.STORED, new_id=made.id, problem=None)
        self.journal.record_succession(adopted)
        return adopted

    def _keep(self, made: ApiKey, secret: Secret) -> None:
        if self.mint.store.kind == NO_STORE:
            self.journal.remember([self.elsewhere.known_as_listed(made, secret)])  # the sink goes on keeping it
        else:
            self.adopter.run([KeyView(made, KeyStatus.ACTIVE)], secret)

    def _revoke_made_elsewhere(self, made: ApiKey, scene: Scene) -> None:
        with self.locks.hold([key_lock(self.server.url, made.id)], f"the key {made.id}"):
            self.revoker.revoke_locked(KeyView(made, KeyStatus.ACTIVE))
        scene.changed(replace(made, is_revoked=True, revoked_at=scene.now))

    # --- afterwards ---------------------------------------------------------------------------

    def confirm(self, items: Sequence[Succession], scene: Scene) -> list[BlnkctlError]:
        """Look at what was made once more, in a list that is newer than all of it; return what is wrong."""
        return [problem for item in items if (problem := self._confirm(item, scene)) is not None]

    def _confirm(self, item: Succession, scene: Scene) -> BlnkctlError | None:
        made = scene.find(item.old.name, item.new_id)
        if made is None:
            return self._noted(item, _lost(item))
        if made.scheme not in (scheme_of(self.goal), StorageScheme.UNKNOWN):
            return self._take_back(item, made, _wrong_core(item, made))
        return self._of_two(item, made, scene)

    def _of_two(self, item: Succession, made: ApiKey, scene: Scene) -> BlnkctlError | None:
        """Of two machines that recreate one key at once the later one takes its own back."""
        counted = scene.successor_of(item.old)
        if counted is None or counted.id == made.id:
            return None
        return self._take_back(item, made, _made_twice(item, counted))

    def _take_back(self, item: Succession, made: ApiKey, problem: BlnkctlError) -> BlnkctlError:
        if revoke_for_certain(self.server, made.id, made.owner):
            known = self.journal.find_known(self.server.url, made.id)
            if known is not None:
                self.successor.forget_new(known)
            item = replace(item, phase=SuccessionPhase.BEGUN, new_id=None, promoted_at=None)
        return self._noted(item, problem)

    def _noted(self, item: Succession, problem: BlnkctlError) -> BlnkctlError:
        self.successor.noted(item, problem)
        return problem


def _gone(old: ApiKey) -> Incomplete:
    return Incomplete(
        f"{old.id}, which the plan names, is not in the list: the server looks restored from another copy.",
        code="server_restored",
        hint="Plan again, from what is there now: blnkctl migrate plan",
        target=old.id,
    )


def _ended(old: ApiKey, how: str) -> Incomplete:
    return Incomplete(
        f"{old.id} was planned to be recreated, and is {how} meanwhile: nothing was made.",
        code=f"{how}_meanwhile",
        hint="Plan again; or edit its action in the plan to skip.",
        target=old.id,
    )


def _not_settled(old: ApiKey) -> Incomplete:
    return Incomplete(
        f"A blnkctl that was making the successor of {old.id} ended in the midst of it; nothing was sent.",
        code="not_settled",
        hint="Run this again: what it left is settled first.",
        target=old.id,
    )


def _no_mark_left(old: ApiKey) -> Incomplete:
    return Incomplete(
        f"Four successors of {old.id} that expire in the same second were made before: no mark is left for a fifth.",
        code="no_mark_left",
        hint="Edit its new.expires_at in the plan by a second.",
        target=old.id,
    )


def _begun_elsewhere(old: ApiKey, made: ApiKey) -> Incomplete:
    return Incomplete(
        f"{old.id} is being migrated elsewhere: its successor {made.id} is live.",
        code="begun_elsewhere",
        hint="Go on where it was begun; or keep what can be proven from here, and recreate the rest: --take-over",
        target=old.id,
    )


def _made_twice(item: Succession, counted: ApiKey) -> Incomplete:
    problem = _begun_elsewhere(item.old, counted)
    if item.is_open or not item.sinks:
        return problem
    return Incomplete(
        f"{problem.message} {item.new_id}, made here a moment later, is taken back, and was delivered already.",
        code=problem.code,
        hint=f"Where that one was made, deliver it once more: blnkctl keys deliver {counted.id} --to SINK",
        target=item.old.id,
    )


def _lost(item: Succession) -> Incomplete:
    return Incomplete(
        f"{item.new_id}, made just now for {item.old.id}, is not in the list: the server looks restored from an older"
        " copy.",
        code="server_restored",
        hint="Compare with: blnkctl keys list. Then plan again.",
        target=item.old.id,
    )


def _wrong_core(item: Succession, made: ApiKey) -> Incomplete:
    return Incomplete(
        f"{item.new_id} was stored as {made.scheme}: an older Core answered, whose keys die with the upgrade. It was"
        " revoked again.",
        code="wrong_generation",
        hint="Is an old server still behind the load balancer, or was the server downgraded? Then run this again.",
        target=item.old.id,
    )
