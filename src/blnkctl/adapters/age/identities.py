"""Where the identity that opens an age store is: a file named by the environment, the store itself bare or wrapped,
or an unlocked copy in the runtime directory. Or not here at all: then the store can only be written."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from threading import Lock

from blnkctl.adapters.age.layout import Layout, store_failed
from blnkctl.domain.errors import StoreUnavailable
from blnkctl.domain.secret import Secret
from blnkctl.domain.times import format_timestamp, parse_timestamp
from blnkctl.sealing import crypto
from blnkctl.sealing.crypto import CannotOpen, Damaged, Identity
from blnkctl.system.files import (
    ensure_private_directory,
    read_private,
    read_trusted,
    remove_durably,
    write_atomically,
)
from blnkctl.system.mounts import MEMORY_FILE_SYSTEMS, file_system_of

DAMAGED = "store_damaged"
_UNTIL = "# until "


class IdentityState(Enum):
    """What this machine can do with the store."""

    BARE = "bare"
    GIVEN = "given by BLNKCTL_AGE_IDENTITY_FILE"
    UNLOCKED = "unlocked"
    LOCKED = "locked"
    ABSENT = "not here"


@dataclass(frozen=True, slots=True)
class IdentitySources:
    """Where to look. `ask_passphrase` returns None where nobody can be asked."""

    layout: Layout
    given_file: Path | None
    runtime_directory: Path | None
    ask_passphrase: Callable[[], Secret | None]
    now: Callable[[], datetime]


class Identities:
    """Finds identities, asking for the passphrase only when nothing else opens a file, and at most once.

    Any number of threads may open files: the first of them asks, the others wait for what it is told.
    """

    def __init__(self, sources: IdentitySources) -> None:
        self._sources = sources
        self._one_at_a_time = Lock()
        self._opened: list[Identity] | None = None
        self._unwrapped: list[Identity] | None = None
        self._unwrapped_files: list[Path] = []
        self._adopted: list[Identity] = []

    def adopt(self, made: list[Identity]) -> None:
        """Take identities that were just made, so that nobody is asked for what is known."""
        self._adopted += made

    def open(self, content: bytes, what: str, store_id: str) -> bytes:
        """Decrypt a sealed file.

        Raises:
            StoreUnavailable: `identity_not_here`, `secret_store_locked`, or damaged.
        """
        with self._one_at_a_time:
            return self._open(content, what, store_id)

    def _open(self, content: bytes, what: str, store_id: str) -> bytes:
        was_read_before = self._opened is not None
        ready = self._ready(store_id)
        try:
            return crypto.open_sealed(content, ready)
        except Damaged as problem:
            raise _cannot_open(what, problem, DAMAGED) from None
        except CannotOpen as problem:
            if was_read_before:  # a rekey may have exchanged the files since
                self._opened = None
                return self._open(content, what, store_id)
            wrapped = self._wrapped_files()
            if not wrapped:
                raise (_cannot_open(what, problem) if ready else identity_not_here(what)) from None
        try:
            return crypto.open_sealed(content, self._unwrap(wrapped))
        except CannotOpen as problem:
            raise _cannot_open(what, problem) from None

    def state(self, store_id: str) -> IdentityState:
        """Tell what this machine can do, without asking anybody."""
        if self._sources.given_file is not None and self._sources.given_file.exists():
            return IdentityState.GIVEN
        if self._bare_files():
            return IdentityState.BARE
        if self._unwrapped is not None or self._read_unlocked(store_id) is not None:
            return IdentityState.UNLOCKED
        return IdentityState.LOCKED if self._wrapped_files() else IdentityState.ABSENT

    def is_here(self) -> bool:
        """Tell whether this machine holds an identity of the store, locked or not.

        One that no recipient names was left by an `init` that was killed: it opens nothing.
        """
        if self._sources.given_file is not None:
            return True
        layout = self._sources.layout
        published = b"".join(_content(path) for path in (layout.recipients, layout.next_recipients))
        return any(path.stem.encode() in published for path in self._bare_files() + self._wrapped_files())

    def is_wrapped(self) -> bool:
        """Tell whether an identity of the store is here under a passphrase."""
        return bool(self._wrapped_files())

    def is_bare(self) -> bool:
        """Tell whether an identity of the store is here in clear."""
        return bool(self._bare_files())

    def check_passphrase(self, passphrase: Secret) -> None:
        """Open what is wrapped here with a passphrase.

        Raises:
            StoreUnavailable: it is the wrong one (`wrong_passphrase`).
        """
        self._unwrapped_files = self._wrapped_files()
        contents = self._unwrap_with(passphrase, self._unwrapped_files)
        self._unwrapped = [identity for content in contents for identity in crypto.parse_identities(content)]

    def unlock(self, store_id: str, duration: timedelta) -> datetime:
        """Keep the identity, in clear, in the runtime directory, which must be in memory. Return until when.

        Raises:
            StoreUnavailable: no wrapped identity, no passphrase, or no such directory.
        """
        path = self._unlocked_path(store_id)
        until = self._sources.now() + duration
        wrapped = self._wrapped_files()
        if not wrapped:
            raise StoreUnavailable(
                "There is nothing to unlock: this store's identity is not wrapped by a passphrase here.",
                code="nothing_to_unlock",
                hint="See how it opens: blnkctl store status",
            )
        content = f"{_UNTIL}{format_timestamp(until)}\n".encode() + b"".join(self._unwrap_contents(wrapped))
        try:
            ensure_private_directory(path.parent)
            _require_memory(path.parent)
            write_atomically(path, content)
        except OSError as error:
            raise store_failed("keep the unlocked identity", error) from None
        return until

    def lock(self, store_id: str) -> bool:
        """Delete the unlocked copy; tell whether there was one."""
        self._opened = self._unwrapped = None
        if self._sources.runtime_directory is None:
            return False
        try:
            return remove_durably(self._runtime_file(store_id))
        except OSError as error:
            raise store_failed("delete the unlocked identity", error) from None

    def _ready(self, store_id: str) -> list[Identity]:
        """Return what can be had without asking; read once."""
        if self._opened is None:
            contents = [(str(path), self._read(path)) for path in self._bare_files()]
            if self._sources.given_file is not None:
                given = self._sources.given_file
                contents.insert(0, (str(given), self._read(given, read_trusted)))
            unlocked = self._read_unlocked(store_id)
            contents += [] if unlocked is None else [("that was unlocked", unlocked)]
            self._opened = [identity for name, content in contents for identity in self._parse(name, content)]
        return self._opened + self._adopted + (self._unwrapped or [])

    def _parse(self, name: str, content: bytes) -> list[Identity]:
        try:
            if content.startswith((b"age-encryption.org/", crypto.ARMOR_BEGIN)):
                content = crypto.unwrap(content, self._passphrase())
            return crypto.parse_identities(content)
        except CannotOpen as problem:
            raise _cannot_open(f"the identity {name}", problem) from None

    def _unwrap(self, wrapped: list[Path]) -> list[Identity]:
        if self._unwrapped is None or self._unwrapped_files != wrapped:
            self._unwrapped_files = wrapped
            contents = self._unwrap_contents(wrapped)
            self._unwrapped = [identity for content in contents for identity in crypto.parse_identities(content)]
        return self._unwrapped

    def _unwrap_contents(self, wrapped: list[Path]) -> list[bytes]:
        return self._unwrap_with(self._passphrase(), wrapped)

    def _unwrap_with(self, passphrase: Secret, wrapped: list[Path]) -> list[bytes]:
        try:
            return [crypto.unwrap(self._read(path), passphrase) for path in wrapped]
        except CannotOpen as problem:
            raise _cannot_open("the identity", problem, code="wrong_passphrase") from None

    def _passphrase(self) -> Secret:
        passphrase = self._sources.ask_passphrase()
        if passphrase is None:
            raise StoreUnavailable(
                "The age store is locked, and nobody is here to give its passphrase; nothing was sent.",
                code="secret_store_locked",
                hint="Run `blnkctl store unlock` in a terminal, or set BLNKCTL_STORE_PASSPHRASE.",
            )
        return passphrase

    def _read(self, path: Path, read: Callable[[Path], bytes] = read_private) -> bytes:
        try:
            return read(path)
        except FileNotFoundError:
            raise _no_identity_file(path) from None
        except OSError as error:
            raise store_failed(f"read the identity {path}", error) from None

    def _bare_files(self) -> list[Path]:
        return sorted(self._sources.layout.identities.glob("*.txt"))

    def _wrapped_files(self) -> list[Path]:
        return sorted(self._sources.layout.identities.glob("*.age"))

    def _runtime_file(self, store_id: str) -> Path:
        directory = self._sources.runtime_directory or Path()
        return directory / "blnkctl" / f"{store_id}.identity"

    def _unlocked_path(self, store_id: str) -> Path:
        _require_memory(self._sources.runtime_directory)
        return self._runtime_file(store_id)

    def _read_unlocked(self, store_id: str) -> bytes | None:
        """Return the unlocked copy unless its time is over; then delete it."""
        if self._sources.runtime_directory is None:
            return None
        path = self._runtime_file(store_id)
        try:
            content = read_private(path)
        except OSError:
            return None
        first = content.split(b"\n", 1)[0].decode("ascii", "replace")
        if self._sources.now() < _until(first):
            return content
        self.lock(store_id)
        return None


def _require_memory(directory: Path | None) -> None:
    if directory is None or file_system_of(directory) not in MEMORY_FILE_SYSTEMS:
        raise StoreUnavailable(
            "There is no runtime directory in memory (XDG_RUNTIME_DIR on tmpfs); nothing was unlocked.",
            code="no_runtime_directory",
            hint="Set BLNKCTL_STORE_PASSPHRASE for the one command instead, or give the passphrase when asked.",
        )


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _until(line: str) -> datetime:
    moment = None
    with suppress(ValueError):
        moment = parse_timestamp(line.removeprefix(_UNTIL))
    if moment is None:
        raise StoreUnavailable("The unlocked identity is damaged.", code=DAMAGED, hint="Run: blnkctl store lock")
    return moment


def _no_identity_file(path: Path) -> StoreUnavailable:
    return StoreUnavailable(
        f"There is no identity file {path}; nothing was sent.",
        code="identity_not_here",
        hint="Correct BLNKCTL_AGE_IDENTITY_FILE, or put the file there.",
    )


def identity_not_here(what: str) -> StoreUnavailable:
    """Return the error for reading where the store can only be written."""
    return StoreUnavailable(
        f"The identity that opens {what} is not on this machine; nothing was sent.",
        code="identity_not_here",
        hint="Run this where the identity is, or name it with BLNKCTL_AGE_IDENTITY_FILE.",
    )


_WHAT_TO_DO = {
    DAMAGED: "Restore the file from a backup. If there is none, revoke the key and make a new one.",
    "wrong_passphrase": "Type it again, or correct BLNKCTL_STORE_PASSPHRASE.",
}


def _cannot_open(what: str, problem: CannotOpen, code: str = "store_unreadable") -> StoreUnavailable:
    return StoreUnavailable(
        f"{what[:1].upper()}{what[1:]} could not be opened: {problem}.",
        code=code,
        hint=_WHAT_TO_DO.get(code, "See which identity is used: blnkctl store status"),
    )
