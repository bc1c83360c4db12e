"""Moving a server's entries from one store to another: written, read back twice, recorded, only then removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from blnkctl.domain.entries import ADMIN, EntryName
from blnkctl.domain.errors import RECOVER_HINT, Incomplete, StoreUnavailable
from blnkctl.domain.keys import is_key_id
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import ServerUrl
from blnkctl.usecases.escrows import settle_escrows
from blnkctl.usecases.guards import refuse_too_many

if TYPE_CHECKING:
    from blnkctl.ports import Clock, Journal, SecretStore

MISSING = "store_missing"
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class MovedEntry:
    """What became of one entry; `problem` says why it was left where it was."""

    username: str
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class MoveEntries:
    """Moves everything that one store holds of a server. Cut short anywhere, it is run again.

    `switch_contexts` makes the contexts of this server look for their admin key in the goal.
    """

    server: ServerUrl
    source: SecretStore
    goal: SecretStore
    journal: Journal
    clock: Clock
    switch_contexts: Callable[[], None]

    def settle(self) -> None:
        """Let the source have everything that its escrows still keep."""
        settle_escrows([self.source], self.journal, self.clock.now())

    def plan(self) -> list[EntryName]:
        """Return what would be moved, the admin key last.

        Raises:
            StoreUnavailable: the source cannot be read. UsageError: more than the goal takes in one go.
            Incomplete: something unfinished may still need the source.
        """
        self._refuse_unfinished()
        entries = self._entries()
        self.goal.entries(self.server)  # a goal that is not there is met now
        refuse_too_many(self.goal, len(entries))
        return sorted(entries, key=lambda entry: (entry.username == ADMIN, entry.username))

    def run(self, plan: Sequence[EntryName], canary: EntryName, progress: Progress) -> list[MovedEntry]:
        """Move what was planned; one that the goal holds with another secret is left and told.

        Raises:
            StoreUnavailable: a store failed; what was not removed yet is still in the source.
        """
        with self.source.writing(), self.goal.writing():
            self.goal.check_writable(canary)
            copied = [self._copy(entry, progress, number, len(plan)) for number, entry in enumerate(plan, 1)]
            if copied:
                self.clock.sleep(self.goal.settling_seconds)
            for entry, item in zip(plan, copied, strict=True):
                if item.problem is None:
                    self._end(entry)
        self._switch_if_unused()
        return copied

    def _refuse_unfinished(self) -> None:
        for operation in self.journal.open_operations():
            if operation.server == str(self.server) and operation.store == self.source.kind:
                raise Incomplete(
                    f"An unfinished operation may still need the {self.source.kind} store; nothing was moved.",
                    code="unfinished",
                    hint=RECOVER_HINT,
                )

    def _copy(self, entry: EntryName, progress: Progress, number: int, total: int) -> MovedEntry:
        secret = self._read(entry)
        there = self.goal.get(entry)
        if there is not None and there != secret:
            return MovedEntry(entry.username, f"the {self.goal.kind} store holds another secret of it")
        if there is None:
            self.goal.put(entry, secret, self._about(entry))
            if not self.goal.confirms(entry, secret):
                raise self._lies(entry)
        progress(number, total)
        return MovedEntry(entry.username)

    def _end(self, entry: EntryName) -> None:
        """Read it back once more, record where it is, remove it from the source."""
        if not self.goal.confirms(entry, self._read(entry)):
            raise self._lies(entry)
        known = self.journal.find_known(self.server, entry.username)
        if known is not None:
            self.journal.remember([replace(known, store=self.goal.kind, store_id=self.goal.store_id)])
        if entry.username == ADMIN:
            self.switch_contexts()
        self.source.delete(entry)

    def _switch_if_unused(self) -> None:
        """Contexts that take their admin key from elsewhere keep their keys in the goal from now on, too."""
        if not self._entries():
            self.switch_contexts()

    def _entries(self) -> list[EntryName]:
        """Return what blnkctl put there: keys and the admin key. A store that was never made holds nothing."""
        try:
            entries = self.source.entries(self.server)
        except StoreUnavailable as problem:
            if problem.code == MISSING:
                return []
            raise
        return [entry for entry in entries if entry.username == ADMIN or is_key_id(entry.username)]

    def _read(self, entry: EntryName) -> Secret:
        secret = self.source.get(entry)
        if secret is None:
            raise StoreUnavailable(
                f"{entry.username} went out of the {self.source.kind} store while it was being moved.",
                code="store_failed",
                hint="Look at it with: blnkctl store status; then run this again.",
            )
        return secret

    def _about(self, entry: EntryName) -> dict[str, object]:
        known: KnownKey | None = self.journal.find_known(self.server, entry.username)
        return {} if known is None else {"id": known.id, "owner": known.owner, "name": known.name}

    def _lies(self, entry: EntryName) -> StoreUnavailable:
        return StoreUnavailable(
            f"The {self.goal.kind} store returned another value of {entry.username} than it took."
            f" It is still in the {self.source.kind} store.",
            code="store_lies",
            target=entry.username,
        )
