"""What an operator configures: named servers, and where each one's admin key is found. Never a secret."""

import re
from dataclasses import dataclass, field
from datetime import timedelta

from blnkctl.domain.errors import NotConfigured, UsageError
from blnkctl.domain.grace import DEFAULT_GRACE
from blnkctl.domain.servers import ServerUrl

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
NO_STORE = "none"  # a sink that can be read back takes the store's place
KEEPING_STORES = ("os", "age")
STORES = (*KEEPING_STORES, NO_STORE)
DEFAULT_STORE = "os"


@dataclass(frozen=True, slots=True)
class AdminKeySource:
    """Where an admin key is: in the store (neither field), in the output of a command, or in a file."""

    command: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """A named server and the defaults for working with it. `store` None: none was named, so the default is meant."""

    name: str
    url: ServerUrl
    store: str | None = None
    owners: tuple[str, ...] = ()
    admin_key: AdminKeySource = field(default_factory=AdminKeySource)
    ca_file: str | None = None
    allow_http: bool = False
    protected: bool = False
    grace: timedelta = DEFAULT_GRACE


@dataclass(frozen=True, slots=True)
class Configuration:
    """The whole file. `unknown` names keys that this version does not know; they are kept."""

    contexts: tuple[Context, ...] = ()
    current: str | None = None
    unknown: tuple[str, ...] = ()

    def find(self, name: str) -> Context | None:
        """Return a context by name."""
        return next((context for context in self.contexts if context.name == name), None)


def check_context_name(name: str) -> str:
    """Return a name for a context unless it could not be typed everywhere.

    Raises:
        UsageError: it is not 1 to 64 letters, digits, dots, dashes and underscores, beginning with a letter or digit.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(
            "A context's name is 1 to 64 letters, digits, '.', '-' and '_', beginning with a letter or a digit.",
            code="bad_name",
            hint="Example: prod",
        )
    return name


def check_store_kind(name: str) -> str:
    """Return the kind of a store that this version has.

    Raises:
        UsageError: it has no such store.
    """
    if name not in STORES:
        raise UsageError(
            f"There is no store {name!r} in this version.", code="unknown_store", hint=f"Stores: {', '.join(STORES)}."
        )
    return name


def check_keeps(kind: str | None, what: str) -> None:
    """Know that a store keeps anything by itself; None is the default one.

    Raises:
        UsageError: it is `none`, which has no place for `what`.
    """
    if kind == NO_STORE:
        raise UsageError(
            f"The store none keeps nothing by itself: there is no place for {what}. Nothing was sent.",
            code="store_keeps_nothing",
            hint=f"Name another one with BLNKCTL_STORE: {' or '.join(KEEPING_STORES)}.",
        )


def whereabouts(kind: str | None) -> str:
    """Say where what a store of this kind was given is."""
    return "in its sink" if kind == NO_STORE else "in the store"


def check_keeps_admin_key(kind: str | None, context: str | None) -> None:
    """Know that a store can hold an admin key; None is the default one.

    Raises:
        NotConfigured: it is `none`.
    """
    if kind == NO_STORE:
        raise NotConfigured(
            "The store none keeps no admin key.",
            code="admin_key_not_kept",
            hint="Leave it where it is, with --admin-key-command CMD or --admin-key-file FILE of"
            f" `blnkctl context set {context or 'NAME'}`, or give it in BLNKCTL_ADMIN_KEY.",
        )


def check_transport(url: ServerUrl, *, allow_http: bool) -> ServerUrl:
    """Return a URL that a key may be sent to: https, or http on this machine, or http where it was allowed.

    Raises:
        UsageError: plain http to another machine (`http_not_allowed`).
    """
    if url.scheme == "http" and not url.is_loopback and not allow_http:
        raise UsageError(
            f"{url} is plain http: every request would show the key to the network. Nothing was sent.",
            code="http_not_allowed",
            hint="Use https; or on a network that you trust BLNKCTL_ALLOW_HTTP=1, or --allow-http of `context set`.",
        )
    return url
