"""The OS keyring as a `SecretStore`: entries are items of the keyring, escrows are sealed files by the journal."""

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import time
from typing import Self

from blnkctl.adapters.keyrings.escrow import SETTLING_SECONDS, EscrowIdentity
from blnkctl.adapters.keyrings.failures import failed
from blnkctl.adapters.keyrings.items import Keyring, KeyringState, item_of
from blnkctl.domain.entries import EntryName, EscrowedKey, EscrowReading, StoreStatus
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.operations import Operation
from blnkctl.domain.recovery import EscrowState
from blnkctl.domain.secret import Secret
from blnkctl.domain.servers import ServerUrl
from blnkctl.sealing import crypto, records
from blnkctl.sealing.crypto import CannotOpen, Damaged
from blnkctl.sealing.escrows import EscrowFiles
from blnkctl.system.files import TEMPORARY_PREFIX, remove_durably

BULK_LIMIT = 500
_LONGEST_WRITE = 60.0


class OsStore:
    """Keeps each secret as an item of the OS keyring.

    `known_usernames` tells what the index believes to be there, for keyrings that cannot list their items.
    """

    kind = "os"
    bulk_limit: int | None = BULK_LIMIT
    takes_threads = False
    settling_seconds = SETTLING_SECONDS

    def __init__(
        self,
        directory: Path,
        keyring: Callable[[], Keyring],
        known_usernames: Callable[[ServerUrl], Iterable[str]],
        sleep: Callable[[float], None],
    ) -> None:
        self._directory = directory
        self._keyring = keyring
        self._known_usernames = known_usernames
        self._identity = EscrowIdentity(directory, keyring, sleep)
        self._escrows = EscrowFiles(directory / "pending")

    @property
    def store_id(self) -> str:
        """The escrow's recipient: only this keyring holds its identity."""
        return self._identity.recipient

    def used_by(self, operation: Operation) -> Self:  # noqa: ARG002
        """Return the same store: its entries are items of the keyring, whatever made them."""
        return self

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Make sure of the keyring and its escrow's identity; nothing has to be kept out of it."""
        self._identity.ensure()
        yield

    def check_writable(self, canary: EntryName) -> None:
        """Take, return and drop a canary; prove that the escrow's identity is in the keyring."""
        secret = Secret(secrets.token_urlsafe(32))
        try:
            self.put(canary, secret, {})
            if not self.confirms(canary, secret):
                raise StoreUnavailable("The OS keyring returned another value than it took.", code="store_lies")
        finally:
            self.delete(canary)
        self._identity.recipient  # noqa: B018 (raises where it is missing)

    def check_readable(self) -> None:
        """Whoever can write a keyring can read it."""

    def put(self, entry: EntryName, secret: Secret, about: dict[str, object], escrow: str | None = None) -> None:
        """Write an item; the escrow stays beside it until a later read-back (`settle_escrow`)."""
        self._keyring().set(item_of(entry, about), secret)
        if escrow is not None:
            with suppress(OSError):
                os.utime(self._escrows.path(escrow))  # from now on the second counts

    def confirms(self, entry: EntryName, secret: Secret) -> bool:
        """Read the item back and compare."""
        return self._keyring().get(item_of(entry)) == secret

    def get(self, entry: EntryName) -> Secret | None:
        """Return the secret of an item."""
        return self._keyring().get(item_of(entry))

    def holds(self, entry: EntryName) -> bool:
        """Tell whether the item is there; only the keyring that was used before may say that it is not."""
        if self.get(entry) is not None:
            return True
        self._identity.check_same()
        return False

    def delete(self, entry: EntryName) -> bool:
        """Delete an item; tell whether it was there."""
        return self._keyring().delete(item_of(entry))

    def entries(self, server: ServerUrl) -> list[EntryName]:
        """Return the items of a server: by asking the keyring, else those of the index that it has."""
        listed = self._keyring().usernames(server)
        if listed is not None:
            return [EntryName(server, username) for username in listed]
        known = (EntryName(server, username) for username in self._known_usernames(server))
        return [entry for entry in known if self.get(entry) is not None]

    def status(self) -> StoreStatus:
        """Describe the keyring without a prompt."""
        try:
            state = self._keyring().state()
        except StoreUnavailable as problem:  # one that may not be used is not opened at all
            state = KeyringState("unavailable", "none", problem=problem.message)
        return StoreStatus(
            kind=self.kind,
            state=state.state,
            entries=state.entries,
            identity=None,
            directory=None,
            recipients=(),
            backend=state.backend,
            latency=state.latency,
            problem=state.problem,
        )

    # --- escrow -------------------------------------------------------------------------------

    def reserve_escrow(self, operation: str) -> None:
        """Write zeros for as many bytes as the sealed key can need."""
        recipients = self._identity.parsed()
        try:
            self._escrows.reserve(operation, recipients)
        except OSError as error:
            raise _escrow_failed("reserve space for the new secret", error) from None

    def write_escrow(self, operation: str, key: EscrowedKey, server: ServerUrl) -> None:
        """Seal first, then write over the placeholder and fsync."""
        record = records.pack(EntryName(server, key.key_id), key.secret, records.describe(key))
        sealed = crypto.seal(record, self._identity.parsed())
        try:
            self._escrows.write(operation, sealed)
        except OSError as error:
            raise _escrow_failed("write the escrow", error) from None

    def read_escrow(self, operation: str) -> EscrowReading:
        """Tell what is left: zeros, a torn file or one that is no escrow count as none."""
        try:
            opened = self._open_escrow(operation)
        except CannotOpen:
            return EscrowReading(EscrowState.LOCKED, problem="Its escrow was sealed for another keyring.")
        except StoreUnavailable as problem:
            return EscrowReading(EscrowState.LOCKED, problem=problem.message)
        key = None if opened is None else records.escrowed(opened)
        return EscrowReading(EscrowState.NONE) if key is None else EscrowReading(EscrowState.READABLE, key)

    def keep_sealed_escrow(self, operation: str, entry: EntryName) -> None:
        """Make an escrow the entry; what is sealed for this keyring can be opened here."""
        key = self.read_escrow(operation).key
        if key is None:
            raise failed("keep the escrow", "it cannot be opened here")
        self.put(entry, key.secret, {"owner": key.spec.owner, "name": key.spec.name})

    def settle_escrow(self, operation: str, entry: EntryName, fingerprint: str | None) -> None:
        """Drop an escrow whose secret, set a second ago or more, is read back; put back one that was lost."""
        if self._is_fresh(operation):
            return
        key = _of_entry(self._open_escrow_or_stop(operation), entry, fingerprint)
        if key is not None and self.get(entry) is None:
            self.put(entry, key.secret, {"owner": key.spec.owner, "name": key.spec.name}, operation)
            if not self.confirms(entry, key.secret):
                raise StoreUnavailable("The OS keyring returned another value than it took.", code="store_lies")
            return
        self.drop_escrow(operation)

    def pending_escrows(self) -> list[str]:
        """Return the operations that have an escrow, whole or not."""
        return self._escrows.operations()

    def drop_escrow(self, operation: str) -> None:
        """Delete an escrow, if there is one."""
        try:
            remove_durably(self._escrows.path(operation))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _escrow_failed("delete the escrow", error) from None

    def sweep(self) -> None:
        """Delete what a kill left half-written: what is older than any write takes."""
        for path in self._directory.rglob(f"{TEMPORARY_PREFIX}*"):
            with suppress(OSError):
                if time() - path.stat().st_mtime > _LONGEST_WRITE:
                    path.unlink()

    def _open_escrow(self, operation: str) -> bytes | None:
        try:
            sealed = self._escrows.read(operation)
        except OSError as error:
            raise _escrow_failed("read the escrow", error) from None
        if sealed is None:
            return None
        try:
            return self._identity.open(sealed)
        except Damaged:
            return None

    def _open_escrow_or_stop(self, operation: str) -> bytes | None:
        try:
            return self._open_escrow(operation)
        except CannotOpen:
            raise failed("read an escrow", "it was sealed for another keyring") from None

    def _is_fresh(self, operation: str) -> bool:
        try:
            return abs(time() - self._escrows.path(operation).stat().st_mtime) < SETTLING_SECONDS
        except OSError:
            return False


def _of_entry(opened: bytes | None, entry: EntryName, fingerprint: str | None) -> EscrowedKey | None:
    """Return the key of an escrow if it is that of an entry: anybody can encrypt to a public key."""
    key = None if opened is None else records.escrowed(opened)
    if opened is None or key is None:
        return None
    _, about = records.unpack(opened)
    named = (about.get("server"), about.get("username"), key.key_id, key.secret.fingerprint())
    wanted = (str(entry.server), entry.username, entry.username, fingerprint or key.secret.fingerprint())
    return key if named == wanted else None


def _escrow_failed(doing: str, error: OSError) -> StoreUnavailable:
    return failed(f"{doing} (a file beside the journal)", error.strerror or str(error))
