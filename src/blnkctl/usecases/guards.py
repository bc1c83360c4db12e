"""What every change checks or holds around itself: locks, the server's generation, the signs of a restored copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from blnkctl.domain.contexts import NO_STORE
from blnkctl.domain.errors import (
    BlnkctlError,
    Incomplete,
    Refused,
    Rejected,
    ServerTrouble,
    Unsupported,
    UsageError,
)
from blnkctl.domain.keys import ApiKey
from blnkctl.domain.names import escape_unsafe
from blnkctl.domain.operations import KnownKey
from blnkctl.domain.probes import ServerProfile
from blnkctl.domain.servers import ServerUrl

if TYPE_CHECKING:
    from blnkctl.domain.generations import Generation
    from blnkctl.domain.sinks import SinkAddress
    from blnkctl.ports import KeyServer, SecretStore
    from blnkctl.usecases.deliver import DeliverSecret, Recipient


def operation_lock(operation_id: str) -> str:
    """Return the name of the lock that an operation holds for as long as it runs."""
    return f"operation {operation_id}"


def name_lock(server: ServerUrl, owner: str, name: str) -> str:
    """Return the name of the lock that making a key of this name takes."""
    return f"name {server} {owner!r} {name!r}"


def key_lock(server: ServerUrl, key_id: str) -> str:
    """Return the name of the lock that changing a key takes."""
    return f"key {server} {key_id}"


def refuse_insecure(profile: ServerProfile, url: ServerUrl) -> None:
    """Raise Refused if secure mode is off: then keys protect nothing, and anybody could create them."""
    if not profile.is_secure:
        raise Refused(
            f"{url} runs with secure mode off: it answers anybody, with any key or none. Nothing was created.",
            code="secure_mode_off",
            hint="Set server.secure = true in its blnk.json (BLNK_SERVER_SECURE), restart it, then run this again.",
        )


@contextmanager
def telling(now: str) -> Iterator[None]:
    """Add to the server's trouble what is true now: who sent the request did not know what it was for."""
    try:
        yield
    except (ServerTrouble, Refused, Rejected) as problem:
        message = f"{problem.message} {now}"
        raise type(problem)(message, hint=problem.hint, code=problem.code, target=problem.target) from None


def require_listing(profile: ServerProfile, url: ServerUrl) -> None:
    """Raise Unsupported before 0.12, where the server can neither list nor revoke keys."""
    if not profile.generation.can_list:
        raise Unsupported(
            f"{url} runs a Core before 0.12, which can neither list nor revoke keys over HTTP. Nothing was sent.",
            code="cannot_list",
            hint="`keys create`, `verify`, `exec` and `reveal` work; for the rest upgrade Core to 0.12 or newer.",
        )


def signs_of_a_restored_server(known: Sequence[KnownKey], rows: Sequence[ApiKey]) -> str | None:
    """Say which key shows that the server was restored from an older copy, or None.

    `known` and `rows` are of one owner: a key made here is gone there, or one revoked here is live there.
    """
    listed = {row.id: row for row in rows}
    for key in known:
        row = listed.get(key.id)
        shown = f"the key {key.id} ({escape_unsafe(f'{key.owner}/{key.name}')})"
        if row is None:
            return f"{shown}, made here, is gone there"
        if key.is_revoked and not row.is_revoked:
            return f"{shown}, revoked here, is live there"
    return None


def server_restored(url: ServerUrl, sign: str) -> Incomplete:
    """Return the error for a server that lost changes made from here."""
    return Incomplete(
        f"{url} looks restored from an older copy: {sign}. Nothing was touched.",
        code="server_restored",
        hint="Compare `blnkctl keys list` with what should be there; revoke again what must not live.",
    )


def refuse_too_many(store: SecretStore, count: int) -> None:
    """Raise UsageError where one change would write more entries than a store takes in good time.

    A keyring rewrites its file for each: at 5,000 items half a second each (measured on gnome-keyring 42.1).
    """
    if store.bulk_limit is not None and count > store.bulk_limit:
        raise UsageError(
            f"{count} entries are more than the {store.kind} store takes in one change ({store.bulk_limit});"
            " nothing was sent.",
            code="too_many_for_store",
            hint="Keep them in the age store, which has no such limit: --store age",
        )


def require_sink(
    store: SecretStore, delivery: DeliverSecret, planned: Iterable[tuple[Recipient, Sequence[SinkAddress]]]
) -> None:
    """Know that each key goes where it can be read back, if that is all that keeps it.

    Raises:
        UsageError: one does not (`store_needs_sink`).
    """
    if store.kind != NO_STORE:
        return
    for recipient, addresses in planned:
        if not any(delivery.open(address, recipient).can_be_read_back for address in addresses):
            raise needs_a_sink(recipient)


def require_list(store: SecretStore, generation: Generation) -> None:
    """Know that a key whose secret did not reach its sink could be told by it, and revoked.

    Raises:
        Unsupported: before 0.12 neither can be done (`store_needs_list`).
    """
    if store.kind == NO_STORE and not generation.can_list:
        raise Unsupported(
            "Before Core 0.12 keys can be neither listed nor revoked: one that did not reach its sink could not be"
            " found again, and there is no store. Nothing was sent.",
            code="store_needs_list",
            hint="Name another store with BLNKCTL_STORE: os or age.",
        )


def needs_a_sink(recipient: Recipient | None) -> UsageError:
    """Return the error for a key that nothing would keep."""
    whose = "" if recipient is None else f" of {escape_unsafe(f'{recipient.owner}/{recipient.name}')}"
    return UsageError(
        f"The store none keeps nothing by itself, and no sink{whose} can be read back. Nothing was sent.",
        code="store_needs_sink",
        hint="Give --to env-file:PATH[#VAR], or name another store with BLNKCTL_STORE: os or age.",
    )


def revoke_for_certain(server: KeyServer, key_id: str, owner: str) -> bool:
    """Revoke a key and tell whether that is certain: by Blnk's own 204, or else by the list."""
    try:
        server.revoke(key_id, owner)
    except BlnkctlError:
        return _is_listed_as_revoked(server, key_id, owner)
    return True


def _is_listed_as_revoked(server: KeyServer, key_id: str, owner: str) -> bool:
    try:
        return any(row.is_revoked for row in server.list_keys(owner) if row.id == key_id)
    except BlnkctlError:
        return False
