"""What an entry is called in a keyring, and what the store asks of whatever keeps it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from blnkctl.domain.entries import ADMIN, EntryName
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import ServerUrl

CALL_SECONDS = 5.0
PROMPT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Item:
    """One item: found elsewhere by service and username; `server` keeps http and https of one port apart."""

    service: str
    username: str
    server: str
    label: str


def item_of(entry: EntryName, about: dict[str, object] | None = None) -> Item:
    """Return the item of an entry; its label names the key for people."""
    return Item(entry.server.service, entry.username, str(entry.server), _label(entry, about or {}))


def identity_item(recipient: str) -> Item:
    """Return the item of an escrow's identity, which belongs to no server."""
    return Item("blnkctl", f"escrow:{recipient}", "", "blnkctl: what opens the escrow of keys being made")


def _label(entry: EntryName, about: dict[str, object]) -> str:
    if entry.username == ADMIN:
        return f"blnkctl: admin key of {entry.server}"
    if "owner" in about and "name" in about:
        return escape_unsafe(f"blnkctl: {about['owner']}/{about['name']} ({entry.server})")
    return f"blnkctl: {entry.username} ({entry.server})"


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever could answer a keyring's dialog: `is_there` is asked each time, `tell` says what is waited for."""

    is_there: Callable[[], bool]
    tell: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class KeyringState:
    """A keyring as it is: `ready`, `locked`, `missing` or `unavailable`; `entries` None where it cannot count."""

    state: str
    backend: str
    entries: int | None = None
    latency: float | None = None
    problem: str | None = None


class Keyring(Protocol):
    """A keyring that answers within a limit. Every method may raise StoreUnavailable."""

    def open(self) -> None:
        """Make sure that it answers and is unlocked, by whoever is there to do that."""

    def get(self, item: Item) -> Secret | None:
        """Return the secret of an item, or None."""

    def set(self, item: Item, secret: Secret) -> None:
        """Write an item, replacing one of that name; whether it is kept must be read back."""

    def delete(self, item: Item) -> bool:
        """Delete an item; tell whether it was there."""

    def usernames(self, server: ServerUrl) -> list[str] | None:
        """Return the usernames that have an item for a server, or None where the keyring cannot tell."""

    def state(self) -> KeyringState:
        """Describe the keyring without a prompt; never raises."""

    def close(self) -> None:
        """Let go of the connection, if there is one."""
