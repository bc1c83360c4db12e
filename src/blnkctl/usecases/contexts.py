"""Naming servers: a context is saved only when its server was reached and took its admin key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import DEFAULT_STORE, AdminKeySource, Context
from blnkctl.domain.entries import ADMIN, EntryName
from blnkctl.domain.errors import BlnkctlError, StoreUnavailable
from blnkctl.domain.probes import ServerProfile
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import ServerUrl
from blnkctl.usecases.guards import refuse_insecure

if TYPE_CHECKING:
    from blnkctl.ports import KeyServer, Reporter, SecretStore


@dataclass(frozen=True, slots=True)
class CheckServer:
    """Asks a server everything that a context relies on, before anything is stored."""

    server: KeyServer
    reporter: Reporter

    def run(self) -> ServerProfile:
        """Check reachability, generation, the admin key and secure mode.

        Raises:
            Unreachable, ServerTrouble, Refused: the context would not work.
        """
        profile = self.server.profile(check_secure=True)
        refuse_insecure(profile, self.server.url)
        self.reporter.note(f"{self.server.url} is Blnk Core {profile.generation.label}, and takes this admin key.")
        if not profile.generation.can_list:
            self.reporter.warn("Before Core 0.12 keys can be created, but neither listed nor revoked over HTTP.")
        return profile


@dataclass(frozen=True, slots=True)
class KeepAdminKey:
    """An admin key on its way into the store. `previous` is what was there, None too where it cannot be read."""

    store: SecretStore
    entry: EntryName
    was_there: bool
    previous: Secret | None

    def undo(self) -> None:
        """Put the entry back as it was; one that this machine can only write stays as the last write left it."""
        with self.store.writing():
            if self.previous is not None:
                self.store.put(self.entry, self.previous, {})
            elif not self.was_there:
                self.store.delete(self.entry)


def keep_admin_key(store: SecretStore, server: KeyServer, secret: Secret, canary: str) -> KeepAdminKey:
    """Store an admin key: canary first, then the key, read back and compared.

    Raises:
        StoreUnavailable: the store did not keep it; what was there before is there again.
    """
    entry = EntryName(server.url, ADMIN)
    with store.writing():
        store.check_writable(EntryName(server.url, canary))
        kept = KeepAdminKey(store, entry, entry in store.entries(server.url), _previous(store, entry))
        try:
            store.put(entry, secret, {})
            is_kept = store.confirms(entry, secret)
        except StoreUnavailable:
            kept.undo()
            raise
        if not is_kept:
            kept.undo()
            raise StoreUnavailable("The store returned another admin key than it took.", code="store_lies")
    return kept


def _previous(store: SecretStore, entry: EntryName) -> Secret | None:
    try:
        return store.get(entry)
    except BlnkctlError:
        return None


def needs_stored_key(url: ServerUrl, store: str | None, contexts: tuple[Context, ...]) -> bool:
    """Tell whether one of the contexts uses this server with the admin key that is in this store."""
    wanted = (url, store or DEFAULT_STORE, AdminKeySource())
    return any((context.url, context.store or DEFAULT_STORE, context.admin_key) == wanted for context in contexts)
