"""The Secret Service (gnome-keyring, KeePassXC, KWallet): keyring's own backend, with the limits that it lacks.

The stock backend hangs on a frozen daemon and on a dialog that nobody sees, makes a collection where there is none,
and takes the first of several items that fit (measured with keyring 25.7.0 and gnome-keyring 42.1).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import perf_counter
from typing import TypeVar

from keyring.backends.SecretService import Keyring as StockKeyring
from secretstorage import Collection, get_collection_by_alias
from secretstorage import Item as StoredItem
from secretstorage.collection import SESSION_COLLECTION
from secretstorage.exceptions import (
    ItemNotFoundException,
    PromptDismissedException,
    SecretServiceNotAvailableException,
)
from secretstorage.util import add_match_rules, open_session

from blnkctl.adapters.keyrings.bus import SERVICE, BoundedConnection, connect
from blnkctl.adapters.keyrings.failures import (
    FROZEN,
    LOCKED,
    MISSING,
    ambiguous,
    locked,
    missing,
    told_by_keyring,
    usable,
)
from blnkctl.adapters.keyrings.items import PROMPT_SECONDS, Item, KeyringState, Person
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import ServerUrl

NAME = "Secret Service"
_APPLICATION = "blnkctl"
_ATTEMPTS = 5
_STATES = {LOCKED: "locked", MISSING: "missing"}


Answer = TypeVar("Answer")


class SecretService(StockKeyring):
    """The default collection, by its alias; one connection and session as long as they last."""

    appid = _APPLICATION

    def __init__(self, environment: Mapping[str, str], person: Person) -> None:
        """Remember where the bus is; nothing is asked yet. What KEYRING_PROPERTY_… would set does not count."""
        self._environment = environment
        self._person = person
        self._collection: Collection | None = None
        self._given_up: StoreUnavailable | None = None

    # --- items --------------------------------------------------------------------------------

    def open(self) -> None:
        """Make sure of the default collection, unlocked."""
        with self._asking("open its default collection"):
            self.get_preferred_collection()

    def get(self, item: Item) -> Secret | None:
        """Return the secret of an item, if all that fit agree on it."""
        with self._asking("give back a secret"):
            found = self._steadily(lambda: {self._secret_of(stored) for stored in self._search(item)})
        if len(found) > 1:
            raise ambiguous(item.service, item.username)
        return next((Secret(text) for text in found), None)

    def set(self, item: Item, secret: Secret) -> None:
        """Write an item under its label, replacing the one with these attributes."""
        with self._asking("take a secret", secret.reveal()):
            self.get_preferred_collection().create_item(
                item.label, _attributes(item), secret.reveal().encode(), replace=True
            )

    def delete(self, item: Item) -> bool:
        """Delete every item that fits."""
        with self._asking("delete a secret"):
            found = self._steadily(lambda: list(self._search(item)))
            for stored in found:
                _delete(stored)
        return bool(found)

    def usernames(self, server: ServerUrl) -> list[str] | None:
        """Return the usernames of a server's items, sorted."""
        with self._asking("list its items"):
            return self._steadily(lambda: sorted({_username(stored) for stored in self._of_server(server)}))

    def state(self) -> KeyringState:
        """Describe it as it is, without a prompt."""
        try:
            with self._asking("say how it is"):
                provider = self._provider()
                if self._opened().is_locked():
                    return KeyringState("locked", provider)
                count, latency = self._steadily(self._count_and_time)
        except StoreUnavailable as problem:
            state = _STATES.get(str(problem.code), "unavailable")
            return KeyringState(state, NAME, problem=problem.message)
        return KeyringState("ready", provider, count, latency)

    def close(self) -> None:
        """Close the connection."""
        if self._collection is not None:
            with suppress(OSError):
                self._collection.connection.close()
            self._collection = None

    # --- the collection -----------------------------------------------------------------------

    def get_preferred_collection(self) -> Collection:
        """Return the default collection, unlocked by whoever is there to do it; none is ever made."""
        collection = self._opened()
        if collection.is_locked():
            self._unlock(collection)
        return collection

    def _opened(self) -> Collection:
        if self._collection is None:
            self._collection = self._open(connect(self._environment, self._person))
        return self._collection

    def _open(self, connection: BoundedConnection) -> Collection:
        try:
            add_match_rules(connection)
            collection = get_collection_by_alias(connection, "default")
            if collection.collection_path == SESSION_COLLECTION:
                raise missing("its default collection lasts only as long as the session")
            collection.session = open_session(connection)
        except SecretServiceNotAvailableException:
            connection.close()
            raise missing("no program offers the Secret Service (org.freedesktop.secrets)") from None
        except ItemNotFoundException:
            connection.close()
            raise missing(
                "it has no default collection; make one in Seahorse or by logging in to a desktop"
            ) from None
        except BaseException:
            connection.close()
            raise
        return collection

    def _unlock(self, thing: Collection | StoredItem) -> None:
        if not self._person.is_there():
            raise locked(", and nobody is here to answer its dialog")
        thing.unlock(timeout=PROMPT_SECONDS)
        if thing.is_locked():
            raise locked(": its dialog was dismissed, or could not be shown")

    def _search(self, item: Item) -> Iterator[StoredItem]:
        return self._find(_attributes(item))

    def _find(self, attributes: dict[str, str]) -> Iterator[StoredItem]:
        return iter(list(self.get_preferred_collection().search_items(attributes)))

    def _of_server(self, server: ServerUrl) -> Iterator[StoredItem]:
        return self._find({"application": _APPLICATION, "service": server.service, "server": str(server)})

    def _count_and_time(self) -> tuple[int, float]:
        """Return how many keys there are, and the seconds a look-up takes: reading a secret may show a dialog."""
        count = sum(1 for item in self._find({"application": _APPLICATION}) if _is_a_key(item))
        began = perf_counter()
        for _ in self._find({"application": _APPLICATION, "username": "nothing"}):
            pass
        return count, perf_counter() - began

    def _steadily(self, read: Callable[[], Answer]) -> Answer:
        """Read again where an item went away between two calls: others write as well."""
        for _ in range(_ATTEMPTS):
            try:
                return read()
            except PromptDismissedException:
                raise
            except ItemNotFoundException:
                pass
        return read()

    def _secret_of(self, stored: StoredItem) -> str:
        if stored.is_locked():
            self._unlock(stored)
        return usable(stored.get_secret())

    @contextmanager
    def _asking(self, doing: str, hidden: str = "") -> Iterator[None]:
        """Ask within the limit. A keyring that is stuck or stays locked is not asked again by this process."""
        if self._given_up is not None:
            raise self._given_up
        try:
            with told_by_keyring(doing, hidden):
                yield
        except StoreUnavailable as problem:
            self._given_up = problem if problem.code in (FROZEN, LOCKED) else None
            self.close()
            raise

    def _provider(self) -> str:
        """Return whose Secret Service it is, by the name of its process."""
        process = self._opened().connection.process_of(SERVICE)
        return NAME if process is None else f"{NAME} by {escape_unsafe(process)}"


def _attributes(item: Item) -> dict[str, str]:
    return {
        "application": _APPLICATION,
        "service": item.service,
        "username": item.username,
        "server": item.server,
    }


def _username(item: StoredItem) -> str:
    return item.get_attributes().get("username", "")


def _is_a_key(item: StoredItem) -> bool:
    return not _username(item).startswith(("escrow:", "canary-"))


def _delete(item: StoredItem) -> None:
    try:
        item.delete()
    except PromptDismissedException:
        raise
    except ItemNotFoundException:
        pass  # another did
