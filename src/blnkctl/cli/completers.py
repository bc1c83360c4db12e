"""What a TAB offers for a parameter: from the configuration, the index and fixed words.

Knows no shell. Asks no server and no store, and makes no file. What cannot be read offers nothing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from blnkctl.domain.errors import BlnkctlError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blnkctl.domain.operations import KnownKey
    from blnkctl.wiring import Wiring

Offers = list[tuple[str, str]]
TAB_VARIABLE = "_BLNKCTL_COMPLETE"  # Typer's scripts set it, to complete_SHELL
SHELLS = ("bash", "zsh", "fish", "powershell")


def complete_context(ctx: typer.Context) -> Offers:
    """Offer the contexts, each with its server."""
    return [(context.name, str(context.url)) for context in _wiring(ctx).configuration.contexts]


def complete_owner(ctx: typer.Context) -> Offers:
    """Offer the known owners, each with where it is known from: those of the context even without an index."""
    wiring = _wiring(ctx)
    sources: dict[str, str] = {}
    with suppress(BlnkctlError):
        sources = wiring.index.owners(wiring.target.url)
    return sorted((sources | dict.fromkeys(wiring.target.owners, "context")).items())


def complete_added_owner(ctx: typer.Context) -> Offers:
    """Offer the owners that can be removed: those that were added."""
    wiring = _wiring(ctx)
    sources = wiring.index.owners(wiring.target.url)
    return sorted((owner, source) for owner, source in sources.items() if source == "added")


def complete_key(ctx: typer.Context, incomplete: str) -> Offers:
    """Offer the keys of the index: ids to a word that begins like one, else OWNER/NAME."""
    return _keys(_known(ctx), incomplete)


def complete_stored_key(ctx: typer.Context, incomplete: str) -> Offers:
    """Offer the keys whose secret can be used from here."""
    return _keys([key for key in _known(ctx) if key.is_stored and not key.is_revoked], incomplete)


def complete_scopes(incomplete: str) -> list[str]:
    """Offer scopes, to the last one of a list with commas; not what the list holds already."""
    from blnkctl.domain.scopes import every_scope

    typed, comma, _ = incomplete.rpartition(",")
    return [f"{typed}{comma}{scope}" for scope in every_scope() if scope not in typed.split(",")]


def complete_status() -> list[str]:
    """Offer what a key can be."""
    from blnkctl.domain.keys import KeyStatus

    return [status.value for status in KeyStatus]


def complete_format() -> list[str]:
    """Offer the formats of standard output."""
    from blnkctl.cli.flags import FORMATS

    return list(FORMATS)


def complete_store() -> list[str]:
    """Offer the kinds of stores."""
    from blnkctl.domain.contexts import STORES

    return list(STORES)


def complete_core() -> Offers:
    """Offer a version of Core for each way in which servers behave."""
    from blnkctl.domain.generations import Generation

    return [(generation.representative, f"as Core {generation.label}") for generation in Generation]


def complete_method() -> list[str]:
    """Offer the methods of HTTP that Blnk's routes take."""
    return ["GET", "POST", "PUT", "PATCH", "DELETE"]


def complete_shell() -> list[str]:
    """Offer the shells."""
    return list(SHELLS)


def _wiring(ctx: typer.Context) -> Wiring:
    wiring: Wiring = ctx.find_root().obj.wiring
    return wiring


def _known(ctx: typer.Context) -> list[KnownKey]:
    """Return the index, revoked keys last, else the latest stored first."""
    wiring = _wiring(ctx)
    return sorted(wiring.index.known_keys(wiring.target.url), key=lambda key: key.is_revoked)


def _keys(known: Iterable[KnownKey], incomplete: str) -> Offers:
    from blnkctl.domain.keys import ID_PREFIX
    from blnkctl.domain.selectors import FullName, parse_key_word

    offers: dict[str, str] = {}
    for key in known:
        name, end = f"{key.owner}/{key.name}", " (revoked)" if key.is_revoked else ""
        if incomplete.startswith(ID_PREFIX):
            offers[key.id] = f"{name}{end}"
        elif isinstance(parse_key_word(name), FullName):
            offers.setdefault(name, f"{','.join(key.scopes)}{end}")
    return list(offers.items())
