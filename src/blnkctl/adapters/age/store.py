"""The age store as a `SecretStore`: entries and escrows as sealed files. The entry of a new key *is* its escrow,
written once over the placeholder and then renamed."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from blnkctl.adapters.age.identities import DAMAGED, Identities, identity_not_here
from blnkctl.adapters.age.layout import Layout, Recipients, read_recipients, store_failed
from blnkctl.domain.entries import EntryName, EscrowedKey, EscrowReading
from blnkctl.domain.errors import Busy, StoreUnavailable
from blnkctl.domain.operations import Operation
from blnkctl.domain.recovery import EscrowState
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import ServerUrl
from blnkctl.sealing import crypto, records
from blnkctl.system.files import (
    discard,
    ensure_private_directory,
    give_second_name,
    remove_durably,
    write_atomically,
)
from blnkctl.system.locks import LockBusy, locked

_PATIENCE = 10.0


class AgeStore:
    """Keeps each secret in a file of its own. Reading needs an identity, writing only the recipients."""

    kind = "age"
    bulk_limit: int | None = None
    takes_threads = True
    settling_seconds = 0.0

    def __init__(self, layout: Layout, identities: Identities) -> None:
        self._layout = layout
        self._escrows = layout.escrows
        self._identities = identities
        self._recipients: Recipients | None = None
        self._written: dict[Path, bytes] = {}

    @property
    def store_id(self) -> str:
        """The store's random name, the same through every rekey."""
        return self._known_recipients().store_id

    def used_by(self, operation: Operation) -> Self:  # noqa: ARG002
        """Return the same store: its entries are files, whatever made them."""
        return self

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

    def check_readable(self) -> None:
        """Know that an identity is here."""
        if not self._identities.is_here():
            raise identity_not_here("this store")

    def put(self, entry: EntryName, secret: Secret, about: dict[str, object], escrow: str | None = None) -> None:
        """Write an entry: by giving the escrow that holds it already a second name, else by a new file."""
        self._known_recipients()
        path = self._layout.entry(entry)
        sealed = None if escrow is None else self._written.get(self._escrows.path(escrow))
        try:
            ensure_private_directory(path.parent)
            if escrow is not None and sealed is not None and self._escrows.read(escrow) == sealed:
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
        written = self._written.pop(self._layout.entry(entry), None)
        if self._identities.is_here():
            return self.get(entry) == secret
        return written is not None and self._read_entry(entry) == written

    def get(self, entry: EntryName) -> Secret | None:
        """Return the secret of an entry, which must have been written for this very server."""
        content = self._read_entry(entry)
        if content is None:
            return None
        opened = self._identities.open(content, f"the entry {entry.username}", self.store_id)
        secret, about = records.unpack(opened)
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
        try:
            self._escrows.reserve(operation, self._known_recipients().parsed())
        except OSError as error:
            raise store_failed("reserve space for the new secret", error) from None

    def write_escrow(self, operation: str, key: EscrowedKey, server: ServerUrl) -> None:
        """Seal first, then write over the placeholder and fsync."""
        sealed = self._seal(EntryName(server, key.key_id), key.secret, records.describe(key))
        try:
            self._escrows.write(operation, sealed)
        except OSError as error:
            raise store_failed("write the escrow", error) from None
        self._written[self._escrows.path(operation)] = sealed

    def read_escrow(self, operation: str) -> EscrowReading:
        """Tell what is left: zeros, a torn file or one that is no escrow count as none."""
        try:
            content = self._escrows.read(operation)
        except OSError as error:
            return EscrowReading(EscrowState.LOCKED, problem=store_failed("read the escrow", error).message)
        if content is None:
            return EscrowReading(EscrowState.NONE)
        if not self._identities.is_here():
            return EscrowReading(EscrowState.SEALED, problem="Its identity is not on this machine.")
        try:
            opened = self._identities.open(content, "the escrow", self.store_id)
        except StoreUnavailable as problem:
            if problem.code == DAMAGED:
                return EscrowReading(EscrowState.NONE)
            return EscrowReading(EscrowState.LOCKED, problem=problem.message)
        key = records.escrowed(opened)
        if key is None:
            return EscrowReading(EscrowState.NONE)
        self._written[self._escrows.path(operation)] = content
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
        return self._escrows.operations()

    def settle_escrow(self, operation: str, entry: EntryName, fingerprint: str | None) -> None:  # noqa: ARG002
        """Drop the escrow: the entry is the same file, durable since it was written. One that is gone comes back."""
        if not self._layout.entry(entry).exists() and self._escrows.path(operation).exists():
            self.keep_sealed_escrow(operation, entry)
        self.drop_escrow(operation)

    def drop_escrow(self, operation: str) -> None:
        """Delete an escrow, while no rekey could write it again."""
        path = self._escrows.path(operation)
        self._written.pop(path, None)
        self._remove(path, "delete the escrow")

    def sweep(self) -> None:
        """Delete temporary files; those of a running writer are kept out by its lock."""
        with suppress(LockBusy, OSError), locked(self._layout.lock):
            for path in list(self._layout.leftovers()):
                discard(path)

    # --- files --------------------------------------------------------------------------------

    def _known_recipients(self) -> Recipients:
        recipients = self._recipients  # of which another thread may take leave at any moment
        if recipients is None:
            recipients = self._recipients = read_recipients(self._layout.recipients)
        return recipients

    def _seal(self, entry: EntryName, secret: Secret, about: dict[str, object]) -> bytes:
        return crypto.seal(records.pack(entry, secret, about), self._known_recipients().parsed())

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
        escrow, path = self._escrows.path(operation), self._layout.entry(entry)
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
