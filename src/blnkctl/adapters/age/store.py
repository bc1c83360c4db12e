"""The age store as a `SecretStore`: entries and escrows as sealed files. The entry of a new key *is* its escrow,
written once over the placeholder and then renamed."""

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from blnkctl.adapters.age import crypto
from blnkctl.adapters.age.identities import DAMAGED, Identities
from blnkctl.adapters.age.layout import Layout, Recipients, read_recipients, store_failed
from blnkctl.domain.entries import EntryName, EscrowedKey, EscrowReading
from blnkctl.domain.errors import Busy, StoreUnavailable
from blnkctl.domain.keys import KeySpec, is_key_id
from blnkctl.domain.recovery import EscrowState
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import ServerUrl
from blnkctl.domain.times import format_timestamp, parse_timestamp
from blnkctl.system.files import (
    discard,
    ensure_private_directory,
    give_second_name,
    overwrite_in_place,
    remove_durably,
    write_atomically,
)
from blnkctl.system.locks import LockBusy, locked

PLACEHOLDER = 4096
_BLOCK = 4096
_PATIENCE = 10.0


class AgeStore:
    """Keeps each secret in a file of its own. Reading needs an identity, writing only the recipients."""

    kind = "age"

    def __init__(self, layout: Layout, identities: Identities) -> None:
        self._layout = layout
        self._identities = identities
        self._recipients: Recipients | None = None
        self._written: dict[Path, bytes] = {}

    @property
    def store_id(self) -> str:
        """The store's random name, the same through every rekey."""
        return self._known_recipients().store_id

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep a rekey out while a secret is on its way into the store.

        Raises:
            Busy: a rekey is under way.
            StoreUnavailable: there is no store, or its lock cannot be taken.
        """
        self._recipients = None
        self._known_recipients()
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self._layout.lock, wait=_PATIENCE, shared=True))
            except LockBusy:
                raise Busy("the age store (a rekey)") from None
            except OSError as error:
                raise store_failed("be locked for writing", error) from None
            self._recipients = None
            yield

    def check_writable(self, canary: EntryName) -> None:
        """Take, return and drop a canary; a locked identity is asked for here, before anything is sent."""
        secret = Secret(secrets.token_urlsafe(32))
        try:
            self.put(canary, secret, {})
            if not self.confirms(canary, secret):
                raise StoreUnavailable("The age store returned another value than it took.", code="store_lies")
        finally:
            self.delete(canary)

    def put(self, entry: EntryName, secret: Secret, about: dict[str, object], escrow: str | None = None) -> None:
        """Write an entry: by giving the escrow that holds it already a second name, else by a new file."""
        self._known_recipients()
        path = self._layout.entry(entry)
        sealed = None if escrow is None else self._written.get(self._layout.escrow(escrow))
        try:
            ensure_private_directory(path.parent)
            if escrow is not None and sealed is not None and self._bytes_of_escrow(escrow) == sealed:
                content = sealed
                self._promote(escrow, entry)
            else:
                content = self._seal(entry, secret, about)
                write_atomically(path, content)
        except OSError as error:
            raise store_failed(f"write the entry {entry.username}", error) from None
        self._written[path] = content

    def confirms(self, entry: EntryName, secret: Secret) -> bool:
        """Read the entry back: decrypted where an identity is here, else byte by byte what was written."""
        if self._identities.is_here():
            return self.get(entry) == secret
        written = self._written.get(self._layout.entry(entry))
        return written is not None and self._read_entry(entry) == written

    def get(self, entry: EntryName) -> Secret | None:
        """Return the secret of an entry, which must have been written for this very server."""
        content = self._read_entry(entry)
        if content is None:
            return None
        opened = self._identities.open(content, f"the entry {entry.username}", self.store_id)
        secret, about = _unpack(opened)
        if about.get("server") != str(entry.server):
            raise StoreUnavailable(
                f"The entry {entry.username} belongs to another server; it is never sent to {entry.server}.",
                code="secret_of_another_server",
                hint="Restore the entry from a backup. If there is none, revoke the key and make a new one.",
            )
        if about.get("username") != entry.username:
            raise StoreUnavailable(
                f"The entry {entry.username} holds the secret of another one; it is not used.",
                code="secret_of_another_key",
                hint="Restore the entry from a backup. If there is none, revoke the key and make a new one.",
            )
        return secret

    def holds(self, entry: EntryName) -> bool:
        """Tell whether the entry is there; where this machine can read it is opened, and damage raises."""
        if self._identities.is_here():
            return self.get(entry) is not None
        content = self._read_entry(entry)
        if content is None:
            return False
        if not crypto.is_sealed(content):
            raise StoreUnavailable(f"The entry {entry.username} is damaged.", code="store_damaged")
        return True

    def delete(self, entry: EntryName) -> bool:
        """Delete an entry, while no rekey could write it again."""
        return self._remove(self._layout.entry(entry), f"delete the entry {entry.username}")

    def entries(self, server: ServerUrl) -> list[EntryName]:
        """Return the entries of a server."""
        self._known_recipients()
        return [EntryName(server, username) for username in self._layout.usernames(server)]

    # --- escrow -------------------------------------------------------------------------------

    def reserve_escrow(self, operation: str) -> None:
        """Write zeros for as many bytes as the sealed key can need, at least 4 KiB."""
        sample = crypto.seal(bytes(PLACEHOLDER // 2), self._known_recipients().parsed())
        size = max(PLACEHOLDER, -(-len(sample) // _BLOCK) * _BLOCK)
        path = self._layout.escrow(operation)
        try:
            ensure_private_directory(path.parent)
            write_atomically(path, bytes(size))
        except OSError as error:
            raise store_failed("reserve space for the new secret", error) from None

    def write_escrow(self, operation: str, key: EscrowedKey, server: ServerUrl) -> None:
        """Seal first, then write over the placeholder and fsync."""
        sealed = self._seal(EntryName(server, key.key_id), key.secret, _about(key))
        try:
            overwrite_in_place(self._layout.escrow(operation), sealed)
        except OSError as error:
            raise store_failed("write the escrow", error) from None
        self._written[self._layout.escrow(operation)] = sealed

    def read_escrow(self, operation: str) -> EscrowReading:
        """Tell what is left: zeros, a torn file or one that is no escrow count as none."""
        try:
            content = self._bytes_of_escrow(operation)
        except OSError as error:
            return EscrowReading(EscrowState.LOCKED, problem=store_failed("read the escrow", error).message)
        if content is None or not crypto.is_sealed(content):
            return EscrowReading(EscrowState.NONE)
        if not self._identities.is_here():
            return EscrowReading(EscrowState.SEALED, problem="Its identity is not on this machine.")
        try:
            opened = self._identities.open(content, "the escrow", self.store_id)
        except StoreUnavailable as problem:
            if problem.code == DAMAGED:
                return EscrowReading(EscrowState.NONE)
            return EscrowReading(EscrowState.LOCKED, problem=problem.message)
        key = _escrowed(opened)
        if key is None:
            return EscrowReading(EscrowState.NONE)
        self._written[self._layout.escrow(operation)] = content
        return EscrowReading(EscrowState.READABLE, key)

    def keep_sealed_escrow(self, operation: str, entry: EntryName) -> None:
        """Make a complete escrow, which cannot be opened here, the entry of the id that the list shows."""
        try:
            ensure_private_directory(self._layout.entry(entry).parent)
            self._promote(operation, entry)
        except OSError as error:
            raise store_failed("keep the escrow", error) from None

    def pending_escrows(self) -> list[str]:
        """Return the operations that have an escrow, whole or not."""
        return self._layout.operations()

    def drop_escrow(self, operation: str) -> None:
        """Delete an escrow, while no rekey could write it again."""
        path = self._layout.escrow(operation)
        self._written.pop(path, None)
        self._remove(path, "delete the escrow")

    def sweep(self) -> None:
        """Delete temporary files; those of a running writer are kept out by its lock."""
        with suppress(LockBusy, OSError), locked(self._layout.lock):
            for path in list(self._layout.leftovers()):
                discard(path)

    # --- files --------------------------------------------------------------------------------

    def _known_recipients(self) -> Recipients:
        if self._recipients is None:
            self._recipients = read_recipients(self._layout.recipients)
        return self._recipients

    def _seal(self, entry: EntryName, secret: Secret, about: dict[str, object]) -> bytes:
        """The first line is the secret, so that `age -d FILE | head -n 1` is all that a rescue needs."""
        facts = json.dumps({"server": str(entry.server), "username": entry.username, **about})
        return crypto.seal(f"{secret.reveal()}\n{facts}\n".encode(), self._known_recipients().parsed())

    def _remove(self, path: Path, doing: str) -> bool:
        if not path.exists():
            return False
        try:
            with locked(self._layout.lock, wait=_PATIENCE, shared=True):
                return remove_durably(path)
        except LockBusy:
            raise Busy("the age store (a rekey)") from None
        except OSError as error:
            raise store_failed(doing, error) from None

    def _promote(self, operation: str, entry: EntryName) -> None:
        """Give the escrow's file the entry's name too: the escrow stays until the journal says that it is stored."""
        escrow, path = self._layout.escrow(operation), self._layout.entry(entry)
        try:
            give_second_name(escrow, path)
        except OSError:  # a file system without links
            write_atomically(path, escrow.read_bytes())

    def _read_entry(self, entry: EntryName) -> bytes | None:
        self._known_recipients()
        try:
            return self._layout.entry(entry).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise store_failed(f"read the entry {entry.username}", error) from None

    def _bytes_of_escrow(self, operation: str) -> bytes | None:
        try:
            return self._layout.escrow(operation).read_bytes()
        except FileNotFoundError:
            return None


def _about(key: EscrowedKey) -> dict[str, object]:
    return {
        "id": key.key_id,
        "owner": key.spec.owner,
        "name": key.spec.name,
        "scopes": list(key.spec.scopes),
        "expires_at": format_timestamp(key.spec.expires_at),
        "created_at": format_timestamp(key.created_at),
    }


def _unpack(opened: bytes) -> tuple[Secret, dict[str, object]]:
    try:
        secret, _, rest = opened.decode().partition("\n")
        about = json.loads(rest)
    except ValueError:
        raise StoreUnavailable("An entry of the age store is not one of blnkctl's.", code="store_damaged") from None
    if not isinstance(about, dict):
        raise StoreUnavailable("An entry of the age store is not one of blnkctl's.", code="store_damaged")
    return Secret(secret), about


def _escrowed(opened: bytes) -> EscrowedKey | None:
    try:
        secret, about = _unpack(opened)
        return _read_about(secret, about)
    except (StoreUnavailable, KeyError, TypeError, ValueError):
        return None


def _read_about(secret: Secret, about: dict[str, object]) -> EscrowedKey | None:
    expires_at = parse_timestamp(str(about["expires_at"]))
    created_at = parse_timestamp(str(about["created_at"]))
    key_id, scopes = about["id"], about["scopes"]
    if expires_at is None or created_at is None or not isinstance(scopes, list):
        return None
    if not isinstance(key_id, str) or not is_key_id(key_id):
        return None
    spec = KeySpec(str(about["name"]), str(about["owner"]), tuple(str(scope) for scope in scopes), expires_at)
    return EscrowedKey(key_id, spec, created_at, secret)
